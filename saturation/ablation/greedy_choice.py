"""Greedy choice of the blocks or layers that do least harm together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from ..anatomy import find_blocks, running
from ..patching import Scope, exclusive
from ..policies import SINK, Action, StaticFFN, StaticLayers
from ..recording import Text, called, encode
from ..skipping import skip
from ..trace import Harm
from .chunked_logits import Reader
from .exact_harm import harm as measured
from .exact_harm import mean_kl, mean_loss


def least_harmful(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: str | Sequence[Text],
    *,
    count: int,
    candidates: int = 6,
    harm: Harm | None = None,
    sink: int = SINK,
    action: Action | None = None,
    batch_size: int = 8,
    chunk: int = 64,
    progress: bool = True,
) -> StaticFFN:
    """Choose blocks greedily by the harm of the whole set, as `sleb` chooses layers by the loss.

    Several blocks together harm more than their sum. Each step adds the block that, with those chosen before, changes
    the next-token distribution least.

    Parameters
    ----------
    model, tokenizer, texts
        As for `harm`.
    count
        How many blocks.
    candidates
        Blocks that each step tries, those of least single harm; each takes a pass over the texts.
    harm
        Harm of single blocks of the same model, on any texts; measured on these where it is not given.
    sink, action, batch_size, chunk, progress
        As for `harm`; the policy takes the first two.

    Returns
    -------
    StaticFFN
        Its layers stand in the order in which they were taken, so that a part of them is the choice of fewer.

    Raises
    ------
    ValueError
        For an invalid count, and as for `harm`.
    """
    options: dict[str, Any] = {"batch_size": batch_size, "chunk": chunk, "progress": progress}
    ours = called(running(model)[0]), len(find_blocks(model))
    if harm is not None and (harm.model, harm.layers) != ours:
        raise ValueError(
            f"expected harm of {ours[0]!r} with {ours[1]} layers, got that of {harm.model!r} with {harm.layers}; "
            "measure it on this model"
        )
    if candidates < 1:
        raise ValueError(f"expected each step to try at least one block, got candidates={candidates}; try more")
    single = harm if harm is not None else measured(model, tokenizer, texts, sink=sink, action=action, **options)
    if not 0 <= count <= single.layers:
        raise ValueError(f"expected to choose between 0 and {single.layers} blocks, got {count}; choose fewer")
    order = np.argsort(single.kl[single.measured].mean(axis=0), kind="stable").tolist()
    rows, _ = encode(model, tokenizer, texts)

    def costs(reader: Reader, sets: list[tuple[int, ...]]) -> np.ndarray:
        policies = [StaticFFN(layers, sink=sink, action=action) for layers in sets]
        return mean_kl(reader, [partial(skip, reader.model, one) for one in policies], rows, sink, **options)

    def tried(taken: tuple[int, ...]) -> list[int]:
        return [layer for layer in order if layer not in taken][:candidates]

    return StaticFFN(_greedy(model, rows[0], count, tried, costs), sink=sink, action=action)


def sleb(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: str | Sequence[Text],
    *,
    count: int,
    sink: int = SINK,
    batch_size: int = 8,
    chunk: int = 64,
    progress: bool = True,
) -> StaticLayers:
    """Choose layers to remove by SLEB (Song et al. 2024, arXiv 2402.09025).

    Each step removes the layer that, with those removed before, raises the loss on calibration texts least. The first
    and the last layer stay. The paper uses 128 texts.

    Parameters
    ----------
    model, tokenizer, texts
        As for `harm`.
    count
        How many layers. Each takes a pass over the texts for every layer that is left.
    sink, batch_size, chunk, progress
        As for `harm`; the policy takes the first.

    Returns
    -------
    StaticLayers
        Its layers stand in the order in which they were taken, so that a part of them is the choice of fewer.

    Raises
    ------
    ValueError
        For an invalid count, texts that are too short, and as for `harm`.
    UnsupportedModel
        Where the model's layers cannot be left out.
    """
    options: dict[str, Any] = {"batch_size": batch_size, "chunk": chunk, "progress": progress}
    StaticLayers((), sink=sink)  # refuses a sink that is none
    inner = range(1, len(find_blocks(model)) - 1)
    if not 0 <= count <= len(inner):
        raise ValueError(
            f"expected to choose between 0 and {len(inner)} layers, since the first and the last stay, got {count}; "
            "choose fewer"
        )
    rows, _ = encode(model, tokenizer, texts)
    if max(map(len, rows)) <= sink + 1:
        raise ValueError(
            f"expected texts with tokens to predict past the attention sink, which is the first {sink} positions of "
            f"each, but the longest has {max(map(len, rows))}; give longer texts, or a smaller sink"
        )

    def costs(reader: Reader, sets: list[tuple[int, ...]]) -> np.ndarray:
        policies = [StaticLayers(layers, sink=sink) for layers in sets]
        return mean_loss(reader, [partial(skip, reader.model, one) for one in policies], rows, sink, **options)

    def tried(taken: tuple[int, ...]) -> list[int]:
        return [layer for layer in inner if layer not in taken]

    return StaticLayers(_greedy(model, rows[0], count, tried, costs), sink=sink)


def _greedy(
    model: PreTrainedModel,
    ids: list[int],
    count: int,
    tried: Callable[[tuple[int, ...]], list[int]],
    costs: Callable[[Reader, list[tuple[int, ...]]], np.ndarray],
) -> tuple[int, ...]:
    """Layers in the order of choice: each step takes the one, of those tried, that costs least with those before."""
    (model, _), scope = running(model), Scope()
    taken: tuple[int, ...] = ()
    with exclusive(model, scope), scope.entered():
        reader = Reader.of(model, scope, ids)
        while len(taken) < count:
            sets = [(*taken, layer) for layer in tried(taken)]
            taken = sets[int(np.nan_to_num(costs(reader, sets), nan=np.inf).argmin())]
    return taken
