"""Drift of a skipping run from the dense run, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import copy_context
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..anatomy import input_device
from ..policies import Policy
from ..progress import bar
from ..recording import Text, encode, padded
from ..skipping import skip
from .likelihood import losses


def drift(
    model: PreTrainedModel,
    tokenizer: Any,
    prompts: Sequence[Text],
    dense: Sequence[Sequence[int]],
    sparse: Sequence[Sequence[int]],
    *,
    policy: Policy | None,
    sparse_prompts: Sequence[Text] | None = None,
    chat: bool = False,
    batch_size: int = 8,
    progress: bool = True,
) -> pd.DataFrame:
    """Compare the text of a skipping run with the dense model's text after the same prompts.

    Parameters
    ----------
    model, tokenizer
        As `load` gives them.
    prompts
        Texts, or token ids, that both runs read.
    dense, sparse
        The new token ids of each prompt, as ``generate(...).ids`` gives them.
    policy
        The policy of the run that wrote `sparse`; None is the dense model.
    sparse_prompts
        Prompts of the skipping run, where they differ: in a conversation they hold its own earlier answers.
    chat
        As for `generate`.
    batch_size
        Texts per forward pass.
    progress
        Show a bar where there is a terminal or a notebook.

    Returns
    -------
    DataFrame
        One row per prompt:

        - `agreement`: share of positions that hold the same token, up to the length of the shorter text;
        - `diverged`: position of the first difference, counted from 0 at the first new token; a text that goes on
          where the other has ended differs there; missing where both are equal;
        - `kl`, `kl_max`: KL(dense || skipping) of the next-token distributions, in nats, mean and largest over the
          tokens of the dense text;
        - `dense_nll`: loss of the skipping run's text under the dense model, nats per token. For the dense run it is
          the loss of its own text, so that both can be compared.

    Raises
    ------
    ValueError
        Where the lists are not of one length; and as for `generate`.

    Notes
    -----
    The divergence is teacher-forced: both models read prompt and *dense* text, so that one early difference is not
    counted again at every later token. The policy acts from the end of the prompt on, warm-up counted from there, as
    it would while writing; where its prefill is dense, the first token's divergence is 0. Costs one pass of the
    skipping and two of the dense model over given text; nothing is written anew.
    """
    own_prompts = prompts if sparse_prompts is None else sparse_prompts
    if len({len(prompts), len(dense), len(sparse), len(own_prompts)}) > 1:
        raise ValueError(
            f"expected prompts, dense and sparse texts of one number, got {len(prompts)}, {len(dense)} and "
            f"{len(sparse)}; give those of the same examples"
        )
    rows, starts = encode(model, tokenizer, _behind(model, tokenizer, prompts, dense, chat), chat=False)
    kl = divergences(model, rows, starts, policy=policy, batch_size=batch_size, progress=progress)
    texts = _behind(model, tokenizer, own_prompts, sparse, chat)
    loss = losses(model, tokenizer, texts, batch_size=batch_size, progress=progress)
    same = pd.DataFrame(map(agreement, dense, sparse), columns=["agreement", "diverged"])
    return same.astype({"diverged": "Int64"}).assign(**mean_and_max(kl), dense_nll=loss["nll"] / loss["tokens"])


def agreement(dense: Sequence[int], sparse: Sequence[int]) -> tuple[float, int | None]:
    """Share of equal tokens up to the shorter length, and where the first difference is."""
    same = [ours == theirs for ours, theirs in zip(dense, sparse, strict=False)]
    share = sum(same) / len(same) if same else float(len(dense) == len(sparse))
    if not all(same):
        return share, same.index(False)
    return share, None if len(dense) == len(sparse) else len(same)


def divergences(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    starts: Sequence[int],
    *,
    policy: Policy | None,
    batch_size: int = 8,
    progress: bool = True,
) -> list[Tensor]:
    """Compute KL(dense || skipping) at every predicted token of given texts, teacher-forced.

    Parameters
    ----------
    model
        As `load` gives it.
    rows
        Token ids of each text.
    starts
        Position from which each text counts as decode, for the policy and for the measurement.
    policy
        Which blocks to skip; None gives zeros.
    batch_size, progress
        As for `drift`.

    Returns
    -------
    list of Tensor
        For each text the divergence at the tokens from max(start, 1) on, [token], nats, float32 on the CPU.
    """
    if policy is None:
        return [torch.zeros(len(row) - max(start, 1)) for row, start in zip(rows, starts, strict=True)]
    without = copy_context()  # a forward that runs in it is dense: a patch acts in the context that entered it
    found: list[Tensor] = []
    batches = [(rows[i : i + batch_size], starts[i : i + batch_size]) for i in range(0, len(rows), batch_size)]
    with skip(model, policy, start=list(starts)), torch.no_grad():
        for ids, first in bar(batches, desc="comparing", progress=progress):
            inputs, mask = padded(ids, "right", input_device(model))
            given: dict[str, Any] = {"input_ids": inputs, "attention_mask": mask, "use_cache": False}
            skipping = model(**given).logits  # [batch, width, vocabulary]
            full = without.run(model, **given).logits
            for row, start, ours, theirs in zip(ids, first, skipping, full, strict=True):
                kept = slice(max(start, 1) - 1, len(row) - 1)  # the pass that reads token i predicts token i + 1
                found.append(_kl(theirs[kept], ours[kept]).cpu())
    return found


def _kl(dense: Tensor, sparse: Tensor) -> Tensor:
    """KL of the distributions of logits [token, vocabulary], nats, [token]."""
    dense, sparse = dense.float().log_softmax(-1), sparse.float().log_softmax(-1)
    return (dense.exp() * (dense - sparse)).sum(-1).clamp(min=0)


def _behind(model: Any, tokenizer: Any, prompts: Sequence[Text], new: Sequence[Sequence[int]], chat: bool) -> list:
    """Pairs of ids, (prompt, new text)."""
    rows, _ = encode(model, tokenizer, prompts, chat=chat)
    return [(row, [int(token) for token in ids]) for row, ids in zip(rows, new, strict=True)]


def mean_and_max(kl: Sequence[Tensor]) -> dict[str, list[float]]:
    """The columns `kl` and `kl_max` of divergences [token] of each text; NaN for a text without tokens."""
    nothing = float("nan")
    return {
        "kl": [float(row.mean()) if len(row) else nothing for row in kl],
        "kl_max": [float(row.max()) if len(row) else nothing for row in kl],
    }
