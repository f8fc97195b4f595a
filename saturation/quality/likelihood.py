"""How well a model, dense or skipping, predicts given text."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ..anatomy import input_device
from ..policies import Policy
from ..recording import Text, encode, padded
from ..skipping import Ledger, skip
from .intervals import ratio_interval


def losses(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: Sequence[Text | tuple[Text, Text]],
    *,
    policy: Policy | None = None,
    start: int = 0,
    batch_size: int = 8,
    progress: bool = True,
) -> pd.DataFrame:
    """Negative log-likelihood of given texts, teacher-forced, under the dense or the skipping model.

    Parameters
    ----------
    model, tokenizer
        As `load` gives them.
    texts
        Texts, or pairs (prompt, answer) of which only the answer is scored; in place of any text there may be a list
        of token ids.
    policy
        Which blocks to skip; None is the dense model.
    start
        Position from which the tokens of a plain text count as decode, for the policy and for the score.
    batch_size
        Texts per forward pass.
    progress
        Show a bar where there is a terminal or a notebook.

    Returns
    -------
    DataFrame
        One row per text: `text` (its number), `tokens` (predicted), `nll` (their sum, nats), and of the blocks of
        the decode tokens `skipped` and `blocks` (how many were skipped, of how many).

    Notes
    -----
    Each text is read once with the tokenizer's own special tokens, without a sliding window. Token i is predicted
    from the tokens before it, by the pass that consumes token i - 1; the first token is predicted by nothing.
    Scored are the tokens at positions >= max(start, 1), which for an answer is the whole answer.
    """
    rows, starts = encode(model, tokenizer, texts, start=start)
    context = skip(model, policy, start=starts) if policy is not None else nullcontext()
    scored: list[tuple[int, float]] = []
    batches = [(rows[i : i + batch_size], starts[i : i + batch_size]) for i in range(0, len(rows), batch_size)]
    with context as ledger, torch.no_grad():
        for ids, first in tqdm(batches, desc="scoring", disable=None if progress else True, leave=False):
            scored += _scores(model, ids, first)
    table = pd.DataFrame(scored, columns=["tokens", "nll"]).rename_axis("text").reset_index()
    return table.assign(**_skipped(ledger, len(table)))


def mean_loss(table: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> tuple[float, float, float]:
    """Mean loss per token with a bootstrap interval over texts.

    Parameters
    ----------
    table
        As `losses` gives it.
    confidence
        Of the interval (percentile bootstrap, 2,000 resamples of whole texts).
    seed
        Of the resampling.

    Returns
    -------
    mean, low, high
        Nats per token.

    Raises
    ------
    ValueError
        For fewer than two texts.
    """
    if len(table) < 2:
        raise ValueError(
            f"expected at least 2 texts to estimate an interval from, got {len(table)}; score more texts, or take "
            "nll / tokens of the one as it is"
        )
    total, count = table["nll"].to_numpy(), table["tokens"].to_numpy()
    return float(total.sum() / count.sum()), *ratio_interval(total, count, confidence=confidence, seed=seed)


def rise(sparse: pd.DataFrame, dense: pd.DataFrame, **options: Any) -> tuple[float, float, float]:
    """Rise of the mean loss over the dense run's, paired by text, with its interval; options as for `mean_loss`."""
    return mean_loss(sparse.assign(nll=sparse["nll"] - dense["nll"]), **options)


def _scores(model: Any, ids: list[list[int]], starts: list[int]) -> list[tuple[int, float]]:
    """Predicted tokens and summed loss of each row of one batch."""
    inputs, mask = padded(ids, "right", input_device(model))
    logits = model(input_ids=inputs, attention_mask=mask, use_cache=False).logits  # [batch, width, vocabulary]
    target = inputs[:, 1:].to(logits.device)
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].float().transpose(1, 2), target, reduction="none")
    return [_score(row, len(own), start) for row, own, start in zip(loss.cpu(), ids, starts, strict=True)]


def _score(loss: Tensor, length: int, start: int) -> tuple[int, float]:
    kept = loss[max(start - 1, 0) : length - 1].double()  # [token]; entry i is the loss of token i + 1
    return len(kept), float(kept.sum())


def _skipped(ledger: Ledger | None, texts: int) -> dict[str, Any]:
    """Skipped blocks and all blocks of each text's decode tokens."""
    if ledger is None:
        return {"skipped": 0, "blocks": 0}
    decode = ledger.tokens["phase"].to_numpy() == "decode"
    sequence = ledger.tokens["sequence"].to_numpy()[decode]
    layers = ledger.skipped.shape[1]
    counts = np.bincount(sequence, minlength=texts)
    return {
        "skipped": np.bincount(sequence, weights=ledger.skipped[decode].sum(axis=1), minlength=texts).astype(int),
        "blocks": counts * layers,
    }
