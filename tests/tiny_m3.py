"""A tiny random BGE-M3: its real layout, files and tokenizer kind, made on the spot without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from models.cards import EmbedderCard, RerankerCard, card_from
from models.tensors import write_safetensors

TEXTS = [
    "Митап пройдёт в пятницу в семь вечера, вход по регистрации.",
    "Где лежат записи докладов с прошлой конференции?",
    "The deadline for talks is the first of March; send a short abstract.",
    "Чат для новичков переехал, ссылка в закреплённом сообщении.",
    "ё",
    "",
    "Подскажите, пожалуйста, какой ноутбук взять для обучения небольших моделей до ста тысяч рублей?",
    "emoji 🚀 и знаки: «ёлки», №5, 3½ — всё должно пережить токенизацию",
]


def corpus(n: int = 60, *, seed: int = 0) -> list[str]:
    """Texts of mixed lengths: 1 to 120 words."""
    words = " ".join(TEXTS).split()
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(words, int(size))) for size in np.exp(draw.uniform(0, np.log(120), n)).astype(int)]


def make(
    folder: Path,
    *,
    layers: int = 2,
    hidden: int = 64,
    heads: int = 4,
    intermediate: int = 128,
    positions: int = 514,
    reranker: bool = False,
) -> Path:
    """Write the checkpoint; the heads go into safetensors (FlagEmbedding wants them in ``.pt`` as well).

    With `reranker` it is bge-reranker-v2-m3 in small instead: the same encoder and a classifier of one class.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocab = tokenizer(folder)
    config: dict[str, Any] = {
        "architectures": ["XLMRobertaModel"],
        "model_type": "xlm-roberta",
        "attention_probs_dropout_prob": 0.1,
        "hidden_dropout_prob": 0.1,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "gelu",
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": positions,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "position_embedding_type": "absolute",
        "type_vocab_size": 1,
        "vocab_size": vocab,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    draw = np.random.default_rng(7)

    def random(*shape: int) -> np.ndarray[Any, Any]:
        return draw.normal(0, 0.6 / np.sqrt(shape[-1]), shape).astype(np.float32)

    def norm(name: str) -> dict[str, np.ndarray[Any, Any]]:
        return {f"{name}.weight": 1 + random(hidden), f"{name}.bias": random(hidden)}

    tensors = {
        "embeddings.word_embeddings.weight": 8 * random(vocab, hidden),
        "embeddings.position_embeddings.weight": random(positions, hidden),
        "embeddings.token_type_embeddings.weight": random(1, hidden),
        **norm("embeddings.LayerNorm"),
        "pooler.dense.weight": random(hidden, hidden),
        "pooler.dense.bias": random(hidden),
    }
    for i in range(layers):
        layer = f"encoder.layer.{i}."
        for part, rows, columns in (
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", intermediate, hidden),
            ("output.dense", hidden, intermediate),
        ):
            tensors[f"{layer}{part}.weight"] = 2 * random(rows, columns)
            tensors[f"{layer}{part}.bias"] = random(rows)
        tensors |= norm(f"{layer}attention.output.LayerNorm") | norm(f"{layer}output.LayerNorm")
    if reranker:
        tensors = {f"roberta.{name}": tensor for name, tensor in tensors.items() if "pooler" not in name}
        tensors |= {"classifier.dense.weight": random(hidden, hidden), "classifier.dense.bias": random(hidden)}
        tensors |= {"classifier.out_proj.weight": random(1, hidden), "classifier.out_proj.bias": random(1)}
        config |= {"architectures": ["XLMRobertaForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_safetensors(folder / "model.safetensors", tensors)
    write_safetensors(folder / "sparse_linear.safetensors", {"weight": random(1, hidden), "bias": random(1)})
    write_safetensors(folder / "colbert_linear.safetensors", {"weight": random(hidden, hidden), "bias": random(hidden)})
    return folder


def card(*, context: int = 512, dim: int = 64) -> EmbedderCard:
    made = card_from(
        {
            "name": "tiny-m3",
            "kind": "embedder",
            "repo": "",
            "revision": "",
            "licence": "none",
            "languages": ["ru"],
            "parameters": 1_000_000,
            "quantisation": "fp16",
            "context": context,
            "dim": dim,
            "heads": ["dense", "sparse", "multi_vector"],
            "engine": "bge-m3",
            "pooling": "cls",
            "shape": {"layers": 2, "hidden": dim, "intermediate": 128, "vocab": 500},
            "sources": ["random"],
        },
        name="tiny-m3",
    )
    assert isinstance(made, EmbedderCard)
    return made


def reranker_card() -> RerankerCard:
    made = card()
    return RerankerCard(
        name="tiny-reranker",
        kind="reranker",
        repo="",
        revision="",
        licence="none",
        languages=("ru",),
        parameters=made.parameters,
        quantisation="fp16",
        context=512,
        shape=made.shape,
        sources=("random",),
    )


def tokenizer(folder: Path) -> int:
    """Train a tokenizer of XLM-RoBERTa's kind on a few sentences and write it; returns its size."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=480, special_tokens=special, unk_token="<unk>", show_progress=False, n_sub_iterations=1
    )
    made.train_from_iterator(TEXTS * 4, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    made.save(str(folder / "tokenizer.json"))
    names = {"bos": 0, "cls": 0, "pad": 1, "eos": 2, "sep": 2, "unk": 3, "mask": 4}
    config = {
        "tokenizer_class": "XLMRobertaTokenizer",
        "model_max_length": 512,
        **{f"{name}_token": special[i] for name, i in names.items()},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return int(made.get_vocab_size())
