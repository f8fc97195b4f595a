"""Self-generated calibration text: the model under study writes it, without any data set."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..quality import losses_by_length
from ..recording import end_ids, steps

_LONG = 256  # most tokens of a text
_AT_ONCE = 64  # texts in one round
_ROUNDS = 200  # most rounds, for a model that writes almost nothing


def rows(
    model: PreTrainedModel, tokenizer: Any, tokens: int, limit: int, *, seed: int, keep: float, whole: bool
) -> tuple[list[list[int]], str]:
    """Sample texts at temperature 1 from the token that begins a text; also returns a hash of name and weights.

    This follows Williams et al. (arXiv 2410.17170). ``keep`` keeps the texts of lowest perplexity, from a larger sample
    (Ji et al., arXiv 2410.17711). The last text is cut to the budget where examples need not be whole; else texts are
    taken while they fit.
    """
    begin = _begin(model, tokenizer)
    room = min(limit, _LONG) - 1
    written: list[list[int]] = []
    for number in range(_ROUNDS):
        if sum(map(len, written)) * keep >= 1.05 * tokens + limit:
            break
        written += [ids for ids in _round(model, begin, room, seed * _ROUNDS + number) if len(ids) > 2]
    else:
        raise ValueError(
            f"expected a model that writes {tokens} tokens in {_ROUNDS * _AT_ONCE} texts, got "
            f"{sum(map(len, written))}; take another source"
        )
    if keep < 1:
        written = _likeliest(model, tokenizer, written, keep)
    return _filled(written, tokens, whole), _content(model)


def _round(model: PreTrainedModel, begin: int, room: int, seed: int) -> list[list[int]]:
    """Generate a batch of texts, each up to its end token."""
    generator = torch.Generator().manual_seed(seed)
    ends, rows = end_ids(model), [[begin] for _ in range(_AT_ONCE)]
    open_ = set(range(_AT_ONCE))

    def choose(logits: Tensor) -> Tensor:
        chances = logits.float().cpu().softmax(dim=-1)  # [text, vocabulary]
        return torch.multinomial(chances, 1, generator=generator)[:, 0]

    with torch.no_grad():
        for _, tokens in zip(range(room), steps(model, rows, choose), strict=False):
            for number, token in enumerate(tokens.tolist()):
                if number in open_:
                    rows[number].append(token)
                    if token in ends:
                        open_.remove(number)
            if not open_:
                break
    return rows


def _begin(model: PreTrainedModel, tokenizer: Any) -> int:
    """The token that begins a text; where there is none, the token that ends one."""
    for own in (tokenizer.bos_token_id, getattr(model.config, "bos_token_id", None), tokenizer.eos_token_id):
        if own is not None:
            return int(own)
    raise ValueError(
        "expected a tokenizer with a token that begins or ends a text, from which the model can write, got one with "
        "neither; take another source"
    )


def _likeliest(model: Any, tokenizer: Any, written: list[list[int]], keep: float) -> list[list[int]]:
    """The share of texts of lowest perplexity, in the order of writing."""
    table = losses_by_length(model, tokenizer, written, progress=False)
    mean = (table["nll"] / table["tokens"]).to_numpy()  # [text]
    kept = np.sort(np.argsort(mean, kind="stable")[: int(np.ceil(keep * len(written)))])
    return [written[i] for i in kept]


def _filled(written: list[list[int]], tokens: int, whole: bool) -> list[list[int]]:
    chosen: list[list[int]] = []
    room = tokens
    for ids in written:
        if len(ids) <= room:
            chosen.append(ids)
            room -= len(ids)
        elif not whole:
            chosen.append(ids[:room])
            break
    return chosen


def _content(model: PreTrainedModel) -> str:
    """Hash that identifies the model, from its name and a sum over its weights."""
    sums = [float(weight.detach().double().sum()) for weight in model.parameters()]
    return hashlib.blake2b(repr((model.config._name_or_path, sums)).encode(), digest_size=16).hexdigest()
