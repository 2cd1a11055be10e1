"""``postfinder models …`` as typed."""

from __future__ import annotations

import itertools
import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from models.commands import app
from tests.servers.hub import Hub, serving_hub
from tests.servers.openai import OpenAIServer, say

FILES = {"config.json": b'{"model_type": "qwen3"}', "model.safetensors": bytes(5000), "tokenizer.json": b"{}"}


def run(*words: str, weights: Path | None = None) -> Result:
    options = ["--weights-dir", str(weights)] if weights else []
    return CliRunner().invoke(app, [*words, *options], env={"COLUMNS": "200", "POSTFINDER_WEIGHTS_DIR": ""})


def test_list_shows_every_card_and_what_is_here(tmp_path: Path) -> None:
    shown = run("list", weights=tmp_path).output
    assert "t-pro-it-2.1-fp8" in shown
    assert "bge-m3" in shown
    assert "comes along" in shown


def test_plan_for_a_card_bought_tomorrow() -> None:
    result = run("plan", "--vram", "24", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["fits"][0]["answerer"] == "t-pro-it-2.1-4bit"
    assert any("t-pro-it-2.1-bf16" in line for line in found["refused"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("plan", "t-pro-it-2.1-bf16", "--vram", "24"), "does not fit 24 GiB"),
        (("plan", "bge-m3", "--vram", "24"), "not an answerer"),
        (("plan", "--vram", "24", "--embedder", "t-lite-it-2.1-fp8"), "not an embedder"),
        (("plan", "nonsense", "--vram", "24"), "no model card"),
        (("verify", "bge-m3"), "models pull"),
        (("serve", "bge-m3"), "models pull"),
        (("serve", "t-lite-it-2.1-fp8", "--vram", "24"), "models pull"),
        (("serve", "t-pro-it-2.1-fp8", "--vram", "24"), "does not fit"),
        (("check-quality", "t-lite-it-2.1-fp8", "--texts", "missing.txt"), "not an embedder"),
        (("check-quality", "bge-m3", "--texts", "missing.txt"), "cannot be read"),
        (("quantize", "t-lite-it-2.1-fp8"), "served as it is published"),
        (("quantize", "t-lite-it-2.1-4bit"), "models pull"),
        (("bundle", "bge-m3"), "models pull"),
        (("unbundle", "missing.tar"), "There is no file missing.tar"),
        (("unbundle", "pyproject.toml"), "not a whole bundle"),
        (("plan", "qwen3-4b-gguf", "--answers", "9999"), "are free"),
        (("plan", "qwen3-4b-gguf", "--context", "65536"), "reads 32768 tokens"),
        (("serve", "qwen3-4b-gguf", "--answers", "1"), "models pull"),
        (("serve", "frida", "--vllm"), "vLLM does not serve frida"),
        (("serve", "frida"), "Serve bge-m3"),
        (("serve", "bge-reranker-v2-m3"), "POSTFINDER_RERANKER=bge-reranker-v2-m3"),
        (("pull", "multilingual-e5-small"), "nothing to pull"),
        (("pull", "bge-m3", "--from", "/nowhere"), "BAAI/bge-m3/ as the hub has it"),
        (("plan", "--vram", "nan"), "--vram GIB"),
        (("plan", "--vram", "inf"), "--vram GIB"),
        (("plan", "--vram", "1e300"), "--vram GIB"),
        (("plan", "--vram", "-8"), "--vram GIB"),
        (("plan", "t-lite-it-2.1-4bit", "--vram", "8"), "--answers 1"),
        (("warm", "http://127.0.0.1:9/v1"), "cannot be reached"),
    ],
)
def test_what_cannot_be_done_is_one_line_with_the_cure(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    takes_weights = words[0] not in ("plan", "warm")
    result = run(*words, weights=tmp_path if takes_weights else None)
    assert result.exit_code == 1
    assert says in result.output
    assert "Traceback" not in result.output


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    with serving_hub(Hub("t-tech/T-lite-it-2.1", FILES)) as hub:
        pulled = run("pull", "t-lite-it-2.1-4bit", "--from", hub.url, weights=tmp_path / "a file")
        assert run("pull", "t-lite-it-2.1-4bit", "--from", hub.url, weights=tmp_path / "w").exit_code == 0
    assert pulled.exit_code == 1
    assert "a file" in pulled.output
    bundled = run("bundle", "t-lite-it-2.1-4bit", "--to", str(tmp_path / "no" / "m.tar"), weights=tmp_path / "w")
    assert bundled.exit_code == 1
    assert "There is no folder" in bundled.output
    assert "Traceback" not in pulled.output + bundled.output


def test_no_gpu_says_how_to_plan_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # no driver's tool
    result = run("plan")
    assert result.exit_code == 1
    assert "--vram" in result.output


def test_pull_verify_bundle_unbundle_remove(tmp_path: Path) -> None:
    with serving_hub(Hub("t-tech/T-lite-it-2.1", FILES)) as hub:
        assert run("pull", "t-lite-it-2.1-4bit", "--from", hub.url, weights=tmp_path / "a").exit_code == 0
    assert (
        "3 files as they were pulled, revision 0123"
        in run("verify", "t-lite-it-2.1-4bit", weights=tmp_path / "a").output
    )
    tar = str(tmp_path / "m.tar")
    assert run("bundle", "t-lite-it-2.1-4bit", "--to", tar, weights=tmp_path / "a").exit_code == 0
    assert "whole and checked" in run("unbundle", tar, weights=tmp_path / "b").output
    refused = run(
        "serve", "t-lite-it-2.1-4bit", "--vram", "8", "--answers", "2", "--context", "4096", weights=tmp_path / "b"
    )
    assert refused.exit_code == 1
    assert "models quantize" in refused.output  # still in 16 bits
    assert "GB free again" in run("remove", "t-lite-it-2.1-4bit", weights=tmp_path / "b").output
    assert "Nothing of" in run("remove", "t-lite-it-2.1-4bit", weights=tmp_path / "b").output
    assert run("verify", "t-lite-it-2.1-4bit", weights=tmp_path / "b").exit_code == 1


def test_serve_writes_vllms_command_from_the_plan(tmp_path: Path) -> None:
    result = run("serve", "t-lite-it-2.1-fp8", "--vram", "16", "--port", "8123", "--dry-run", weights=tmp_path)
    words = shlex.split(result.output)
    assert words[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]
    options = dict(itertools.pairwise(words))
    assert options["--model"] == str(tmp_path / "t-lite-it-2.1-fp8")
    assert options["--served-model-name"] == "t-lite-it-2.1-fp8"
    assert (options["--host"], options["--port"]) == ("127.0.0.1", "8123")
    assert options["--max-model-len"] == "8192"
    assert json.loads(options["--default-chat-template-kwargs"]) == {"enable_thinking": False}
    assert "--trust-remote-code" not in words


def test_plan_of_a_gguf_is_for_the_cpu() -> None:
    result = run("plan", "gemma3-270m-gguf", "--answers", "1")
    assert result.exit_code == 0
    assert "on the CPU: weights 0.2, KV cache" in result.output


def test_serve_an_embedder_with_vllm_takes_its_share_of_the_card(tmp_path: Path) -> None:
    result = run("serve", "bge-m3", "--vllm", "--vram", "24", "--dry-run", weights=tmp_path)
    words = shlex.split(result.output)
    options = dict(itertools.pairwise(words))
    assert options["--runner"] == "pooling"
    assert json.loads(options["--hf-overrides"]) == {"architectures": ["BgeM3EmbeddingModel"]}
    assert options["--max-model-len"] == "8192"
    assert options["--gpu-memory-utilization"] == "0.09"  # 2.12 of 24 GiB
    assert "--trust-remote-code" not in words


async def test_warm_is_a_real_answer() -> None:
    import asyncio

    async with OpenAIServer(say("да", "да")) as server:
        result = await asyncio.to_thread(run, "warm", server.url)
    assert result.exit_code == 0
    assert "loopback answers" in result.output
