"""Writes a 4-bit checkpoint of a language model (bitsandbytes NF4, through transformers) that vLLM serves.

NF4 with double quantisation: Dettmers et al. 2023, https://arxiv.org/abs/2305.14314. Needs the gpu extra; a CPU
will do, with memory for the 16-bit weights.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import WeightsError
from models.fetch import read_manifest, write_manifest

CHECK_TEXT = (
    "Митап сообщества пройдёт в пятницу в семь вечера, вход по регистрации. Записи докладов появятся через неделю.",
    "Подскажите, где лежит список литературы к курсу? Он в закреплённом сообщении, обновляется по понедельникам.",
)
TOKENIZER_FILES = ("tokenizer*", "*.jinja", "vocab*", "merges.txt", "special_tokens_map.json", "LICEN*", "NOTICE*")


@dataclass(frozen=True, slots=True)
class Quality:
    """How near the 4-bit model stays to its original on a few Russian sentences.

    Attributes
    ----------
    loss, loss_4bit : float
        Cross-entropy of the next token, in nats.
    same_top : float
        Share of places where both give the same likeliest token.
    bytes, bytes_4bit : int
        Of the weights on disk.
    """

    loss: float
    loss_4bit: float
    same_top: float
    bytes: int
    bytes_4bit: int


def quantize(source: Path, target: Path, *, card: str) -> Quality:
    """Quantise a model and compare it with its original.

    Parameters
    ----------
    source : Path
        Folder with safetensors in 16 or 32 bits.
    target : Path
        Folder to make, `source` itself allowed; it gets a manifest and appears only whole.
    card : str
        Name for the manifest.

    Returns
    -------
    Quality
        Losses before and after.

    Raises
    ------
    WeightsError
        If transformers or bitsandbytes is missing, or the model cannot be loaded.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
    except ImportError as error:
        raise WeightsError("transformers and torch are not installed.", cure="Install the gpu extra.") from error
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    bytes_before = _weights(source)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    options: dict[str, Any] = {
        "dtype": torch.bfloat16,
        "device_map": {"": device},
        "trust_remote_code": False,
        "use_safetensors": True,
        "local_files_only": True,
    }
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=True)
        loss, top = _read(AutoModelForCausalLM.from_pretrained(source, **options), tokenizer)
        model = AutoModelForCausalLM.from_pretrained(source, quantization_config=nf4, **options)
        loss_4bit, top_4bit = _read(model, tokenizer)
        model.save_pretrained(partial)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise WeightsError(
            f"{source} cannot be quantised: {error}.", cure="See the message; verify the model."
        ) from error
    for pattern in TOKENIZER_FILES:
        for path in source.glob(pattern):
            shutil.copyfile(path, partial / path.name)
    manifest = read_manifest(source) if (source / "manifest.json").is_file() else {"repo": "", "revision": ""}
    write_manifest(partial, card=card, repo=manifest["repo"], revision=manifest["revision"])
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)
    return Quality(
        loss=loss,
        loss_4bit=loss_4bit,
        same_top=sum(a == b for a, b in zip(top, top_4bit, strict=True)) / len(top),
        bytes=bytes_before,
        bytes_4bit=_weights(target),
    )


def _read(model: Any, tokenizer: Any) -> tuple[float, list[int]]:
    """Mean next-token loss on the check text, and the likeliest token at each place."""
    import torch

    losses: list[float] = []
    top: list[int] = []
    with torch.inference_mode():
        for text in CHECK_TEXT:
            ids = tokenizer(text, return_tensors="pt").input_ids.to(model.device)
            logits = model(ids).logits[0, :-1].float()
            losses.append(float(torch.nn.functional.cross_entropy(logits, ids[0, 1:])))
            top += logits.argmax(-1).tolist()
    return sum(losses) / len(losses), top


def _weights(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
