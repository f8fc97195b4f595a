"""Control texts without meaning: calibration on them uses no knowledge of the task."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from transformers import PreTrainedModel

_LONG = 256  # tokens of a row, where the texts may be longer
_WORD = 8  # most letters of a random word


def rows(
    name: str, model: PreTrainedModel, tokenizer: Any, tokens: int, limit: int, rng: np.random.Generator
) -> list[list[int]]:
    """Rows of token ids that fill a budget exactly; each begins with the tokenizer's special tokens."""
    width = min(limit, _LONG)
    lengths = [width] * (tokens // width) + ([tokens % width] if tokens % width else [])
    return [_row(name, model, tokenizer, length, rng) for length in lengths]


def _row(name: str, model: PreTrainedModel, tokenizer: Any, length: int, rng: np.random.Generator) -> list[int]:
    if name == "random-tokens":
        special = set(tokenizer.all_special_ids)
        begin = [own for own in tokenizer("a").input_ids[:1] if own in special]
        usable = [
            own for own in range(min(len(tokenizer), model.config.get_text_config().vocab_size)) if own not in special
        ]
        return [*begin, *rng.choice(usable, size=length).tolist()][:length]
    if name == "dots":
        text = " ".join(["."] * length)
    else:
        letters = list(string.ascii_lowercase)
        sizes = rng.integers(1, _WORD + 1, size=length)
        text = " ".join("".join(rng.choice(letters, size=size)) for size in sizes)
    return list(tokenizer(text).input_ids)[:length]
