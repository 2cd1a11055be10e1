"""The containers, by the tools that read their files; nothing here starts one but the slow test."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from appliance import sample
from appliance.app import App
from appliance.config import Config
from appliance.errors import StartupError
from appliance.schema import Asker, Question
from models.serve import Batcher

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "compose"
RULES = COMPOSE / "prometheus" / "alerts.yaml"
VLLM_METRICS = ROOT / ".venv-live/lib/python3.11/site-packages/vllm/v1/metrics/loggers.py"
COMBINATIONS = [["cpu"], ["gpu"], ["monitoring"], ["cpu", "monitoring"], ["gpu", "monitoring"]]
LONG_RUNNING = {"appliance", "vllm", "embedder", "prometheus", "grafana"}


def checked(tool: str, *words: str | Path, **env: str) -> str:
    """Run a validator of `make ci`; what it prints stands in the failure."""
    found = ROOT / ".venv-check" / "bin" / tool
    program = str(found) if found.exists() else shutil.which(tool)
    if program is None:
        pytest.skip(f"{tool} is not installed (`make ci` installs what PyPI has; promtool comes with Prometheus)")
    done = subprocess.run([program, *map(str, words)], cwd=ROOT, env=os.environ | env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def resolved(names: list[str]) -> dict[str, Any]:
    files = [word for name in names for word in ("-f", f"compose/{name}.yaml")]
    words = ("config", "--format", "json")
    return cast(dict[str, Any], json.loads(checked("docker-compose", *files, "--profile", "*", *words)))


@pytest.mark.parametrize("names", COMBINATIONS, ids="+".join)
def test_every_container_is_hardened(names: list[str]) -> None:
    for name, service in resolved(names)["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"].split(":")[0] not in {"", "0", "root"}, name
        assert re.search(r":v?\d+\.\d+\.\d+", service["image"]), f"{name}: no version"
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}, name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}, name
        assert not any("docker.sock" in volume["source"] for volume in service["volumes"]), name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), name
        if name in LONG_RUNNING:
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"], name


def test_models_stand_where_nothing_leads_out() -> None:
    project = resolved(["gpu", "monitoring"])
    assert project["networks"]["inside"]["internal"]
    for name in ("vllm", "embedder", "prometheus"):
        assert list(project["services"][name]["networks"]) == ["inside"], name
        assert "ports" not in project["services"][name], name
    assert {"vllm", "embedder"} <= set(project["services"])


def test_tokens_come_as_files() -> None:
    project = resolved(["gpu", "monitoring"])
    assert all("file" in secret for secret in project["secrets"].values())
    for service in project["services"].values():
        for name in service.get("environment", {}):
            assert name.upper().endswith("FILE") or not re.search("TOKEN$|PASSWORD$|KEY$", name.upper()), name


def test_the_keys_lie_apart_from_the_data() -> None:
    mounts = {v["target"]: v["source"] for v in resolved(["cpu"])["services"]["appliance"]["volumes"]}
    assert len({mounts[folder] for folder in ("/data", "/keys", "/backups")}) == 3
    assert mounts["/weights"] == "weights"


def test_compose_settings_are_settings() -> None:
    known = {f"POSTFINDER_{name}".upper() for name in Config.model_fields}
    for service in resolved(["gpu"])["services"].values():
        assert {name for name in service.get("environment", {}) if name.startswith("POSTFINDER")} <= known


def test_dockerfile_by_hadolint() -> None:
    checked("hadolint", "compose/Dockerfile")


def test_workflows_by_actionlint_and_zizmor() -> None:
    checked("actionlint", *sorted((ROOT / ".github" / "workflows").glob("*.yml")))
    checked("zizmor", "--offline", "--quiet", ".github/workflows")


def test_a_fault_is_seen(tmp_path: Path) -> None:
    """The control: the same tools refuse what is broken."""
    broken = tmp_path / "Dockerfile"
    broken.write_text("FROM python:latest\nRUN cd /srv && pip install x\n")
    with pytest.raises(AssertionError, match="DL3007"):
        checked("hadolint", broken)


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_prometheus_takes_its_configuration(name: str) -> None:
    checked("promtool", "check", "config", f"compose/prometheus/{name}.yaml")


def test_alerts_fire_when_they_should() -> None:
    checked("promtool", "test", "rules", "compose/prometheus/alerts.test.yaml")


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    tested = yaml.safe_load(RULES.with_name("alerts.test.yaml").read_text())["tests"]
    fired = {case["alertname"] for test in tested for case in test["alert_rule_test"] if case["exp_alerts"]}
    silent = {case["alertname"] for test in tested for case in test["alert_rule_test"] if not case["exp_alerts"]}
    assert {rule["alert"] for rule in rules} == fired
    assert fired - silent <= {"EmbedderDown"}  # its rule differs from ApplianceDown's by one word
    assert all(rule["annotations"]["cure"].endswith(".") for rule in rules)


def expressions() -> dict[str, str]:
    """All queries of the alerts and the dashboards, by where they stand."""
    found = {
        rule["alert"]: rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    }
    for file in sorted((COMPOSE / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]:
            for target in panel["targets"]:
                found[f"{file.stem}: {panel['title']} {target['refId']}"] = target["expr"]
    return found


def series_of(text: str) -> set[str]:
    """Names of the series behind a page of metrics."""
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        names |= {f"{name}{end}" for end in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return names


async def test_alerts_and_dashboards_ask_for_what_is_exported(app: App) -> None:
    async for _ in app.verbs.ask(Question(sample.questions()[0], Asker(sees_everything=True))):
        pass
    page = app.metrics().decode()
    registry = CollectorRegistry()
    Batcher(cast(Any, None), max_waiting_tokens=1, registry=registry)  # its figures; no text is embedded
    known = series_of(page) | series_of(generate_latest(registry).decode()) | {"up"}
    for place, expression in expressions().items():
        asked = set(re.findall(r"\b(?:postfinder|embed)_[a-z_]+|\bup\b", expression))
        assert asked <= known, f"{place} asks for {asked - known}"
        for label, value in re.findall(r'postfinder_\w+\{(\w+)="(\w+)"\}', expression):
            assert label == "outcome" or f'{label}="{value}"' in page, f"{place}: no {label} {value}"


def test_vllm_exports_what_is_asked() -> None:
    if not VLLM_METRICS.exists():
        pytest.skip("the live environment is not installed")
    source = VLLM_METRICS.read_text()
    asked = {name for e in expressions().values() for name in re.findall(r"vllm:[a-z_]+", e)}
    assert asked
    for name in asked:
        assert f'name="{re.sub("_(bucket|total)$", "", name)}"' in source, name


def settings(**values: object) -> Config:
    return Config(_env_file=None, **values)  # type: ignore[arg-type, call-arg]


def test_the_token_is_read_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TELEGRAM_BOT_TOKEN", raising=False)
    file = tmp_path / "token"
    file.write_text("123:abc\n")
    assert settings(telegram_token_file=str(file)).bot_token() == "123:abc"
    assert settings(telegram_token_file=str(file), TELEGRAM_BOT_TOKEN="9:set").bot_token() == "9:set"
    file.write_text("")
    assert settings(telegram_token_file=str(file)).bot_token() == ""
    with pytest.raises(StartupError, match="cannot be read"):
        settings(telegram_token_file=str(tmp_path / "none")).bot_token()


@pytest.mark.slow
def test_the_appliance_in_a_container_answers() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker with its compose plugin is not installed")
    if subprocess.run([docker, "info"], capture_output=True).returncode:
        pytest.skip("no container engine runs here")
    subprocess.run(["make", "compose/secrets/telegram_bot_token"], cwd=ROOT, check=True)
    env = os.environ | {"POSTFINDER_PUBLISH": "127.0.0.1:18089"}
    compose = [docker, "compose", "-p", "postfinder-test", "-f", "compose/cpu.yaml"]

    def run(*words: str) -> str:
        done = subprocess.run([*compose, *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    try:
        run("up", "--build", "--detach", "--wait")
        where = "from importlib.resources import files; print(files('appliance.sample') / 'result.json')"
        export = run("exec", "-T", "appliance", "python", "-c", where).strip()
        run("exec", "-T", "appliance", "postfinder", "import", export, "--username", sample.USERNAME)
        body = {"question": sample.questions()[0]}
        answer = httpx.post("http://127.0.0.1:18089/ask", json=body, timeout=30).raise_for_status().json()
        assert answer["outcome"] == "answered"
        assert answer["citations"]
        assert run("exec", "-T", "appliance", "id", "-u").strip() == "10001"
    finally:
        run("down", "--volumes")
