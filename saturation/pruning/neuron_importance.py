"""The order of neurons by importance, for policies that run only the most important ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from ..anatomy import feedforwards, find_matrices, running
from ..policies import SINK, Arrays, Narrow
from ..recording import Text, called
from .inputs import held_model, opened
from .neurons import SCORES, activities

_INSTEAD = "skip whole blocks, with policies that have no action, or put in their place what saturation.stand_in gives"


def narrow(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: Sequence[Text],
    *,
    width: float = 0.5,
    score: str = "energy",
    mean: bool = True,
    sink: int = SINK,
    batch_size: int = 8,
    progress: bool = True,
) -> Narrow:
    """Order the neurons of every block by importance; the model stays as it is.

    Give the result to a policy as its `action`: ``StaticFFN((3, 4), action=st.narrow(...))``. Other widths need no
    new measurement: ``dataclasses.replace(action, width=0.25)``.

    Parameters
    ----------
    model, tokenizer
        As `load` gives them.
    texts
        Calibration texts, or lists of token ids.
    width
        Share of each block's neurons that run.
    score
        Order by: "energy" (mean square of the activation, times the squared length of the neuron's
        column), "relative" or "fisher", as for ``prune(method="neurons")``.
    mean
        Whether the mean output of the other neurons is added.
    sink
        Tokens at the start of each text that do not count, since policies never skip there.
    batch_size, progress
        Texts per pass; a bar where there is a terminal or a notebook.

    Returns
    -------
    Narrow

    Raises
    ------
    UnsupportedModel
        Where a block is no sum over neurons: a mixture of experts, quantised weights.
    ValueError
        For an invalid width, score or texts.
    """
    action = Narrow(width, Arrays({}), "", mean)  # refuses an invalid width
    if score not in SCORES:
        raise ValueError(f"expected a score among {', '.join(SCORES)}, got {score!r}; choose one")
    model, _ = running(model)
    with held_model(model):
        blocks = feedforwards(model, find_matrices(model, instead=_INSTEAD), instead=_INSTEAD)
        rows = opened(model, texts, tokenizer, batch_size)
        if max(map(len, rows)) <= sink:
            raise ValueError(
                f"expected texts of more than {sink} tokens, the attention sink, got none; give longer ones"
            )
        found = activities(model, blocks, rows, score=score, sink=sink, batch_size=batch_size, progress=progress)
    arrays: dict[str, np.ndarray] = {}
    for layer, (one, own) in enumerate(zip(blocks, found, strict=True)):
        order = own.score(one, score).argsort(descending=True, stable=True)
        arrays[f"order {layer}"] = order.cpu().numpy().astype(np.int32)
        arrays[f"mean {layer}"] = (own.sums / own.tokens).cpu().numpy().astype(np.float32)
    return Narrow(action.width, Arrays(arrays), called(model), mean)
