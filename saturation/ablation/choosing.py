"""The blocks that do least harm together, chosen one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from ..anatomy import find_blocks, running
from ..patching import Scope, alone
from ..policies import SINK, Action, StaticFFN
from ..recording import Text, called, encode
from ..skipping import skip
from ..trace import Harm
from .measuring import harm as measured
from .measuring import mean_kl
from .reading import Reader


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
    """The static choice of blocks that is greedy in the harm of the whole set, as SLEB (arXiv 2402.09025) chooses.

    Blocks harm together more, and others, than one by one: each step takes that block which, with those taken before,
    moves the next-token distribution least.

    Parameters
    ----------
    model, tokenizer, texts
        As for `harm`.
    count
        How many blocks.
    candidates
        Blocks that each step tries, those of least harm by themselves; a pass over the texts each.
    harm
        Of the same model by single blocks, on any texts; measured on these where it is not given.
    sink, action, batch_size, chunk, progress
        As for `harm`; the policy takes the first two.

    Returns
    -------
    StaticFFN
        Its layers stand in the order in which they were taken, so that a part of them is the choice of fewer.

    Raises
    ------
    ValueError
        For a count that cannot be, and as for `harm`.
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
    (model, _), scope = running(model), Scope()
    taken: list[int] = []
    with alone(model, scope), scope.entered():
        reader = Reader.of(model, scope, rows[0])
        while len(taken) < count:
            tried = [layer for layer in order if layer not in taken][:candidates]
            policies = [StaticFFN((*taken, layer), sink=sink, action=action) for layer in tried]
            found = mean_kl(reader, [partial(skip, model, policy) for policy in policies], rows, sink, **options)
            taken.append(tried[int(np.nan_to_num(found, nan=np.inf).argmin())])
    return StaticFFN(tuple(taken), sink=sink, action=action)
