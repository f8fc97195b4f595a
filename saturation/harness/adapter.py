"""The harness adapter: lm-eval's own model class with skipping; its requests and scoring do not change.

A log-likelihood request is one forward pass over context and continuation, all prefill, padded on the right without a
mask, longest first; one pass serves all requests that differ only in their last token. A policy that leaves prefill
alone would change nothing, and padding would count as tokens. So each row gets the start of its continuation: tokens
from there on count as decode.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from itertools import groupby, islice
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from lm_eval import __version__ as version
from lm_eval.models.huggingface import HFLM
from torch import Tensor
from transformers import PreTrainedModel

from ..patching import Scope, patched
from ..policies import Policy, SkipRatios, Steps
from ..policies.skip_ratios import ratios_of
from ..recording import padded
from ..skipping import Ledger, skip


class SkippingLM(HFLM):
    """A transformers model for `lm_eval.simple_evaluate`, dense or skipping.

    Attributes
    ----------
    policy
        Which blocks to skip; None is the dense model.

    Notes
    -----
    Requests of different tasks are never batched together, so that skipped blocks can be counted by task.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: Any, policy: Policy | None, *, batch_size: int | str, progress: bool
    ) -> None:
        with _without_remarks():
            super().__init__(pretrained=model, tokenizer=deepcopy(tokenizer), batch_size=batch_size)
        self.policy, self.progress = policy, progress
        self._counted: dict[str, list[pd.DataFrame]] = {}
        self._rows: Iterator[_Row] = iter(())
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._layers = 0
        self._detecting = False

    def ratios(self, *tasks: str) -> SkipRatios:
        """The three skip ratios over the given tasks, or over all.

        `decode` is the share at scored tokens: the tokens of a continuation that are read (the last one is only
        predicted), all tokens of a text whose whole likelihood is requested, and new tokens up to the harness's cut.
        """
        tables = [table for task in tasks or self._counted for table in self._counted.get(task, ())]
        if self.policy is None or not tables:
            return SkipRatios(0.0, 0.0, 0.0)
        tokens = pd.concat(tables)
        steps = Steps(*(tokens[name].to_numpy() for name in ("sequence", "position", "generated")))
        skipped = tokens["skipped"].to_numpy()  # blocks, [token]
        return ratios_of(float(skipped[steps.decode].sum()), float(skipped.sum()), steps, self.policy, self._layers)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihood of continuations; their tokens count as decode."""
        return self._by_task(super().loglikelihood, requests, given=True)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts; all their tokens count as decode."""
        return self._by_task(super().loglikelihood_rolling, requests, given=True)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """New text; its tokens are decoded one by one."""
        return self._by_task(super().generate_until, requests, given=False)

    def _by_task(self, answer: Callable[..., list[Any]], requests: list[Any], *, given: bool) -> list[Any]:
        answers = []
        for task, own in groupby(requests, key=lambda request: request.task_name):
            with self._skipping(task, given):
                answers += answer(list(own), disable_tqdm=not self.progress)
        return answers

    @contextmanager
    def _skipping(self, task: str, given: bool) -> Iterator[None]:
        """Skip by the policy inside the block, and count the skipped blocks for the task afterwards."""
        self._starts, self._ends, ledger = [], [], None
        with ExitStack() as stack:
            if given:
                stack.enter_context(_unmasked(self.model))
            if self.policy is not None:
                start = self._starts if given else None  # the list is read as each pass begins
                ledger = stack.enter_context(skip(self.model, self.policy, start=start))
            yield
        if ledger is not None:
            self._layers = len(ledger.blocks)
            self._counted.setdefault(task, []).append(_counts(ledger, self._ends))

    def _loglikelihood_tokens(
        self, requests: Sequence[_Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Run the harness's scoring, with the start of each row's continuation prepared in the harness's order."""
        rows = [_Row.of(request, self.max_length) for request in requests]
        first = {row.shared: row for row in reversed(rows)}
        alike = all(first[row.shared].start == row.start for row in rows)
        self.logits_cache = alike  # else one pass would serve requests in which the policy skips different tokens
        read = first.values() if alike else rows
        self._rows = iter(sorted(read, key=lambda row: (-len(row.tokens), row.tokens)))
        return super()._loglikelihood_tokens(requests, disable_tqdm=not self.progress, override_bs=override_bs)

    def _model_call(self, inps: Tensor, attn_mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Logits [batch, width, vocabulary] of rows padded on the right, with a mask for hooks."""
        if self._detecting:
            return super()._model_call(inps, attn_mask=attn_mask, labels=labels)
        rows = list(islice(self._rows, len(inps)))
        ids, mask = padded([row.ids for row in rows], "right", inps.device) if rows else (None, None)
        if ids is None or not torch.equal(ids, inps):
            raise RuntimeError(
                "expected lm-evaluation-harness to read its requests longest first and padded with zeros on the right, "
                f"but version {version} does otherwise; install lm-eval 0.4.13"
            )
        self._starts += [row.start for row in rows]
        with torch.no_grad():
            return self.model(input_ids=inps, attention_mask=mask).logits

    def _detect_batch_size(self, requests: Sequence[Any] | None = None, pos: int = 0) -> int:
        """Run the harness's trial passes in another thread, where the policy does not act."""
        self._detecting = True
        try:
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(super()._detect_batch_size, requests, pos).result()
        finally:
            self._detecting = False

    def _model_generate(self, context: Tensor, max_length: int, stop: list[str], **options: Any) -> Tensor:
        """Run the model's own `generate`, and note the number of new tokens before the harness's cut for each row."""
        written = super()._model_generate(context, max_length, stop, **options)
        beams = options.get("num_beams") or 1
        for ids in written[:, context.shape[1] :].tolist():
            self._ends += [self._length(ids, stop)] * beams
        return written

    def _length(self, ids: list[int], stop: list[str]) -> int:
        """Number of new tokens before the one that completes a stop; the end token is a stop too."""

        def stopped(length: int) -> bool:
            text = self.tok_decode(ids[:length], skip_special_tokens=False)
            return any(word in text for word in stop)

        return bisect_left(range(1, len(ids) + 1), True, key=stopped)


_Request = tuple[tuple[str, str] | None, list[int], list[int]]  # the texts (None: a window), context, continuation


class _Row(NamedTuple):
    """The tokens that one request makes the model read."""

    tokens: tuple[int, ...]  # context and continuation
    ids: tuple[int, ...]  # the tokens that are read: all but the last, cut on the left to fit the context
    start: int  # index in `ids` from which tokens count as decode

    @classmethod
    def of(cls, request: _Request, limit: int) -> _Row:
        texts, context, continuation = request
        tokens = (*context, *continuation)
        ids = tokens[-limit - 1 :][:-1]
        whole = texts is None  # a window of a text whose whole likelihood is requested: it counts from 0
        return cls(tokens, ids, 0 if whole else len(context) - (len(tokens) - 1 - len(ids)))

    @property
    def shared(self) -> tuple[int, ...]:
        """Key of requests that one pass serves."""
        return self.tokens[:-1]


def _counts(ledger: Ledger, ends: list[int]) -> pd.DataFrame:
    """Skipped blocks of each scored token; `ends` are the lengths of new texts, by sequence."""
    counts = ledger.tokens[["sequence", "position", "generated"]].assign(skipped=ledger.skipped.sum(axis=1))
    if not ends:
        return counts
    until = np.array(ends)[counts["sequence"]]
    return counts[(counts["generated"] == 0) | (counts["generated"] < until)]


@contextmanager
def _unmasked(model: PreTrainedModel) -> Iterator[None]:
    """Pass the mask to the model's hooks only; the model computes without it, as in the harness.

    With causal attention, padding on the right changes no token, but with a mask a GPU uses another kernel, which
    rounds differently.
    """
    forward, scope = model.forward, Scope()

    def run(*args: Any, attention_mask: Any = None, **named: Any) -> Any:
        return forward(*args, **named) if scope else forward(*args, attention_mask=attention_mask, **named)

    with patched({model: run}), scope.entered():
        yield


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Suppress the harness's two warnings that the model was loaded elsewhere."""
    logger = logging.getLogger("lm_eval.models.huggingface")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
