"""A 4-bit checkpoint of a tiny random language model, written by bitsandbytes through transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.errors import WeightsError
from models.fetch import verify
from models.quantize import quantize
from tests import tiny_llm

torch = pytest.importorskip("torch", reason="the live environment is not installed")
pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llm.make(tmp_path_factory.mktemp("q") / "tiny-qwen3")


def test_the_checkpoint_is_4_bit_whole_and_near_its_original(source: Path, tmp_path: Path) -> None:
    quality = quantize(source, tmp_path / "tiny-4bit", card="tiny-4bit")
    config = json.loads((tmp_path / "tiny-4bit" / "config.json").read_text())
    assert config["quantization_config"]["bnb_4bit_quant_type"] == "nf4"
    assert config["quantization_config"]["bnb_4bit_use_double_quant"] is True
    assert "tokenizer.json" in verify(tmp_path / "tiny-4bit")["files"]
    assert quality.bytes_4bit < 0.45 * quality.bytes
    assert abs(quality.loss_4bit - quality.loss) < 0.25 * quality.loss
    assert quality.same_top > 0.2  # chance is 1 in 120
    assert [p.name for p in tmp_path.iterdir()] == ["tiny-4bit"]
    print(quality)  # noqa: T201


def test_a_folder_without_a_model_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="cannot be quantised"):
        quantize(tmp_path / "empty", tmp_path / "out", card="x")
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]
