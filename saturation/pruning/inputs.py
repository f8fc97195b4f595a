"""Inputs of pruning: an exclusively held model, and calibration texts as token ids."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel

from ..anatomy import Matrix, find_blocks
from ..patching import Scope, exclusive, held
from ..progress import bar
from ..recording import Text, encode

_LOG = logging.getLogger(__name__)
_ALREADY = 0.02  # share of zeros from which a model counts as pruned before


@contextmanager
def held_model(model: PreTrainedModel) -> Iterator[None]:
    """Hold a model exclusively and check that its blocks can be found, so that it can be run layer by layer."""
    unheld(model, "prune the dense model")
    find_blocks(model)
    scope = Scope()
    with exclusive(model, scope), scope.entered():
        yield


def unheld(model: PreTrainedModel, then: str) -> None:
    """Raise RuntimeError where a model is being skipped or watched."""
    if held(model):
        raise RuntimeError(
            "expected a model that nobody skips or watches in, but this one is held; leave that block first, and "
            f"{then}"
        )


def opened(model: PreTrainedModel, calibration: Any, tokenizer: Any, batch_size: int) -> list[list[int]]:
    """Token ids of calibration texts, given in any form."""
    if batch_size < 1:
        raise ValueError(f"expected batch_size >= 1, got {batch_size}; 1 takes one text at a time")
    given = getattr(calibration, "ids", calibration)
    texts: Sequence[Text] = [text if isinstance(text, str) else list(text) for text in given]
    if isinstance(given, str) or (tokenizer is None and any(isinstance(text, str) for text in texts)):
        raise ValueError(
            "expected calibration texts in a list, and tokenizer= with them, got a text or no tokenizer; correct that, "
            "or give lists of token ids"
        )
    return encode(model, tokenizer, texts)[0]


def told(calibration: Any, tokens: int) -> dict[str, Any]:
    """The origin of the texts, as far as known."""
    about = calibration.about() if hasattr(calibration, "about") else {"source": "texts"}
    return {**about, "tokens": tokens}


def before(model: PreTrainedModel, matrices: list[list[Matrix]]) -> list[str]:
    """A note, which is also logged, where the model is pruned already."""
    weights = [matrix.weight for layer in matrices for matrix in layer]
    zeros = sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)
    if zeros < _ALREADY:
        return []
    note = f"the model was pruned before: {zeros:.1%} of the weights were zero already, and count as such"
    _LOG.warning("%s", note)
    return [note]


def shown(layers: list[list[Matrix]], doing: str, progress: bool) -> Any:
    """Iterate over the layers under a progress bar."""
    return bar(layers, desc=doing, unit="block", progress=progress)
