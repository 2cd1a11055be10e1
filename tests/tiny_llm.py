"""Tiny Qwen3 checkpoints with a chat template: real files for real engines. Needs torch and transformers.

`make` is random; `parrot` says what it was told to, whatever it is asked, and so can be borne out by posts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from tests import tiny_m3

CUE = "assistant:"
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


def make(
    folder: Path, *, layers: int = 4, hidden: int = 256, kv_heads: int = 2, head_dim: int = 64, context: int = 4096
) -> Path:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    folder.mkdir(parents=True)
    vocab = tiny_m3.tokenizer(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    torch.manual_seed(0)
    shape = Qwen3Config(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=2 * kv_heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=context,
        initializer_range=0.2,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    Qwen3ForCausalLM(shape).to(torch.bfloat16).save_pretrained(folder)
    return folder


def parrot(folder: Path, pieces: Sequence[str], *, endless: bool = False, context: int = 16384) -> Path:
    """Write a checkpoint that answers `pieces`, a token each and each once, then ends (or starts over).

    Attention and feed-forward blocks are computed like any, but add nothing: the last token alone chooses the next.
    """
    import torch
    from tokenizers import AddedToken, Tokenizer
    from transformers import Qwen3ForCausalLM

    make(folder, context=context)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    chain = [CUE, *pieces]
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in chain])
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = [tokenizer.token_to_id(piece) for piece in chain]
    ids.append(ids[1] if endless else 2)
    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        model.resize_token_embeddings(tokenizer.get_vocab_size(), mean_resizing=False)
        words, scores = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        torch.nn.init.normal_(words)
        torch.nn.init.zeros_(scores)
        for now, following in pairwise(ids):
            scores[following] += words[now] / words[now].norm()
        for block in model.model.layers:
            torch.nn.init.zeros_(block.self_attn.o_proj.weight)
            torch.nn.init.zeros_(block.mlp.down_proj.weight)
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder
