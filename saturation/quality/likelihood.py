"""Likelihood of given text under a dense or skipping model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import pandas as pd
import torch
from transformers import PreTrainedModel

from ..anatomy import input_device
from ..policies import Policy
from ..progress import bar
from ..recording import Text, encode, padded
from ..recording import context as context_of
from ..skipping import skip
from .answers import by_length
from .intervals import ratio_interval
from .skip_counts import counted


class Window(NamedTuple):
    """A part of a text that one pass reads.

    Attributes
    ----------
    text
        Number of the text.
    ids
        Its token ids.
    start
        Position in the window from which tokens count as decode; negative where that was before the window, so that
        a warm-up is counted once per text.
    first
        Position in the window of the first token that is scored; the tokens before it are its context.
    """

    text: int
    ids: list[int]
    start: int
    first: int


def losses(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: Sequence[Text | tuple[Text, Text]],
    *,
    policy: Policy | None = None,
    start: int = 0,
    stride: int | None = None,
    window: int | None = None,
    batch_size: int = 8,
    progress: bool = True,
) -> pd.DataFrame:
    """Compute the negative log-likelihood of given texts, teacher-forced, under the dense or skipping model.

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
    stride, window
        Read a text longer than `window` tokens (None: the model's context) in windows that move on by `stride`
        tokens. Without a stride a text that does not fit into the context is refused.
    batch_size
        Texts, or windows, per forward pass.
    progress
        Show a bar where there is a terminal or a notebook.

    Returns
    -------
    DataFrame
        One row per text: `text` (its number), `tokens` (predicted), `nll` (their sum, nats), and how many blocks
        were skipped: of the decode tokens `skipped` of `skippable` and of `blocks`, of all tokens `all_skipped` of
        `all_blocks`, and of the decode tokens' bytes `unread_bytes` of `ffn_bytes`.

    Raises
    ------
    ValueError
        For a text that is empty or does not fit, and for a stride that is not smaller than the window.

    Notes
    -----
    Each text is read by itself with the tokenizer's own special tokens before it, and nothing between its windows.
    Token i is predicted from the tokens before it, by the pass that consumes token i - 1; the first token is
    predicted by nothing. Scored are the tokens at positions >= max(start, 1), which for an answer is the whole
    answer. Perplexity is ``exp(nll.sum() / tokens.sum())``: the mean is over tokens, not over texts.

    With a stride every token is still scored once, by the first window that reaches it, and sees at least
    ``window - stride`` tokens before it (Press et al., ACL 2021; a smaller stride gives a lower loss and costs more
    passes). The policy acts on the context that is read again as on what is scored; those blocks are counted again.
    """
    given = windows(model, tokenizer, texts, start=start, stride=stride, window=window)
    context = skip(model, policy, start=[one.start for one in given]) if policy is not None else nullcontext()
    scored: list[tuple[int, float]] = []
    batches = [given[i : i + batch_size] for i in range(0, len(given), batch_size)]
    with context as ledger, torch.no_grad():
        for batch in bar(batches, desc="scoring", progress=progress):
            scored += _scores(model, batch)
    table = pd.concat([pd.DataFrame(scored, columns=["tokens", "nll"]), counted(ledger, len(given))], axis=1)
    return table.groupby([one.text for one in given]).sum().rename_axis("text").reset_index()


def losses_by_length(
    model: PreTrainedModel, tokenizer: Any, texts: Sequence[Text | tuple[Text, Text]], **options: Any
) -> pd.DataFrame:
    """As `losses`, without the column `text`; batches have texts of similar length, so less padding."""
    order = by_length(texts)
    table = losses(model, tokenizer, [texts[i] for i in order], **options)
    return table.drop(columns="text").set_axis(order).sort_index()


def windows(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: Sequence[Text | tuple[Text, Text]],
    *,
    start: int = 0,
    stride: int | None = None,
    window: int | None = None,
) -> list[Window]:
    """The windows that `losses` reads, with the same options."""
    width = min(filter(None, (window, context_of(model))), default=None)
    if stride is not None and width is not None and not 0 < stride < width:
        raise ValueError(
            f"expected a stride of at least 1 and less than the window of {width} tokens, got {stride}; the first "
            "token of a window is predicted by nothing, so windows must overlap"
        )
    rows, starts = encode(model, tokenizer, texts, start=start, fits=stride is None)
    return [
        Window(number, row[begin:end], own - begin, first - begin)
        for number, (row, own) in enumerate(zip(rows, starts, strict=True))
        for begin, end, first in _spans(len(row), max(own, 1), stride, width)
    ]


def _spans(length: int, first: int, stride: int | None, width: int | None) -> Iterator[tuple[int, int, int]]:
    """Begin and end of each window over a text, and the first token that it scores."""
    if stride is None or width is None:
        yield 0, length, first
        return
    for begin in range(0, length, stride):
        end = min(begin + width, length)
        if end > first or end == length:
            yield begin, end, first
            first = end
        if end == length:
            return


def mean_loss(table: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> tuple[float, float, float]:
    """Compute the mean loss per token with a bootstrap interval over texts.

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


def _scores(model: Any, batch: Sequence[Window]) -> list[tuple[int, float]]:
    """Predicted tokens and summed loss of each window of one batch."""
    inputs, mask = padded([one.ids for one in batch], "right", input_device(model))
    logits = model(input_ids=inputs, attention_mask=mask, use_cache=False).logits  # [batch, width, vocabulary]
    target = inputs[:, 1:].to(logits.device)
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].float().transpose(1, 2), target, reduction="none")
    kept = [row[one.first - 1 : len(one.ids) - 1].double() for row, one in zip(loss.cpu(), batch, strict=True)]
    return [(len(row), float(row.sum())) for row in kept]  # [token]; entry i of a row of `loss` is of token i + 1
