"""The run of one state of a tuner: text after each prompt, token by token, then the task's score."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from math import inf, isfinite, isnan
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from ...generation import Runs, generate
from ...policies import Policy, RandomFFN, SkipRatios
from ...quality import evaluate, losses, summarise
from ...quality.drift_from_dense import divergences
from ...recording import encode, streams
from ...recording.text_pieces import Pieces
from ...skipping import Ledger, free, skip
from ...tasks import Task
from ...trace import Trace
from ..worker import model_lock
from .passage_diff import agreed, collapsed, divergence
from .states import Asked, Passage, Result, Score, State

_EVERY = 0.1  # seconds between two updates of a text that is being written
_CHOSEN = {"policy", "temperature", "top_p", "seed"}  # provenance of `generate` that `record` does not write
TOGETHER = 8  # examples scored between two checks for Cancel


class Written(NamedTuple):
    """Passages of all prompts with their ledger and speed; the ledger is None for the dense model."""

    passages: tuple[Passage, ...]
    ledger: Ledger | None
    speed: float


@dataclass(eq=False)
class Bench:
    """A model and its prompts; every call takes turns with other widgets on the same model."""

    model: PreTrainedModel
    tokenizer: Any
    asked: Asked

    def write(
        self,
        policy: Policy | None,
        *,
        first: int = 0,
        show: Callable[[int, Passage], None] = lambda prompt, passage: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Written | None:
        """Continue every prompt, one at a time, beginning with number `first`; None where stopped.

        A random policy keeps the given order, since its draws depend on the number of prompts before.
        """
        order = list(range(len(self.asked.prompts)))
        if not isinstance(policy, RandomFFN):
            order.sort(key=lambda number: number != first)
        context = skip(self.model, policy) if policy is not None else nullcontext()
        with self._turn(stopped) as ours, context if ours else nullcontext() as ledger:
            if not ours:
                return None
            stream = _Stream(self.tokenizer, order, ledger, show, stopped)
            runs = self._generate([self.asked.prompts[number] for number in order], on_token=stream)
        if not runs.finished:
            return None
        found = {
            number: passage(Pieces(self.tokenizer), ids, ledger, turn)
            for turn, (number, ids) in enumerate(zip(order, runs.ids, strict=True))
        }
        return Written(tuple(found[number] for number in sorted(found)), ledger, runs.tokens_per_second)

    def record(self, on_token: Callable[[int, int], bool | None]) -> Trace:
        """The dense trace of the prompts, as `saturation.record` gives it; partial where `on_token` returned True."""
        trace = self._generate(self.asked.prompts, record=True, batch_size=8, on_token=on_token).trace
        assert trace is not None
        about = {name: value for name, value in trace.provenance.items() if name not in _CHOSEN}
        return replace(trace, provenance=about)

    def record_in_turn(self, show: Callable[[int], None], stopped: Callable[[], bool]) -> Trace | None:
        """The trace of `record`, made once other widgets release the model; None where stopped."""
        count = 0

        def one_more(prompt: int, token: int) -> bool:
            nonlocal count
            count += 1
            show(count)
            return stopped()

        with self._turn(stopped) as ours:
            trace = self.record(one_more) if ours else None
        return None if stopped() else trace

    def stream(self, trace: Trace, layer: int, stopped: Callable[[], bool]) -> np.ndarray | None:
        """The residual stream in front of a layer's block for every row of a trace, float; None where stopped."""
        sequence, ids = trace.tokens["sequence"].to_numpy(), trace.tokens["token_id"].to_numpy()
        rows = [np.flatnonzero(sequence == number) for number in np.unique(sequence)]
        with self._turn(stopped) as ours:
            if not ours:
                return None
            texts = [ids[own].tolist() for own in rows]
            read = streams(self.model, self.tokenizer, texts, layer, progress=False)
        found = np.empty_like(read)  # [token, hidden]
        found[np.concatenate(rows)] = read
        return found

    def harm(self, policy: Policy, dense: Sequence[Passage], stopped: Callable[[], bool]) -> float | None:
        """KL(dense || skipping) on the dense model's texts, nats per token, as `quality.drift`; None where stopped."""
        rows, starts, new = self._behind(dense)
        with self._turn(stopped) as ours:
            if not ours:
                return None
            found = divergences(self.model, rows, starts, policy=policy, batch_size=1, progress=False)
        mean = float(torch.cat(found).mean()) if new else 0.0
        return mean if isfinite(mean) else inf

    def loss(self, passages: Sequence[Passage], stopped: Callable[[], bool]) -> float | None:
        """Loss of passages under the dense model, nats per token; None where stopped, or without new tokens."""
        rows, starts, new = self._behind(passages)
        with self._turn(stopped) as ours:
            if not ours or not new:
                return None
            pairs = [(row[:start], row[start:]) for row, start in zip(rows, starts, strict=True)]
            table = losses(self.model, self.tokenizer, pairs, batch_size=1, progress=False)
        return float(table["nll"].sum() / table["tokens"].sum())

    def _behind(self, passages: Sequence[Passage]) -> tuple[list[list[int]], list[int], int]:
        """Ids of each prompt with its passage, the index where each passage begins, and the number of new tokens."""
        asked = self.asked
        prompts, _ = encode(self.model, self.tokenizer, asked.prompts[: len(passages)], chat=asked.chat)
        rows = [row + list(one.ids) for row, one in zip(prompts, passages, strict=True)]
        return rows, [len(row) for row in prompts], sum(len(one.ids) for one in passages)

    @contextmanager
    def _turn(self, stopped: Callable[[], bool]) -> Iterator[bool]:
        """Wait until no other widget runs the model and no `skip` is active in it; yields False where stopped."""
        lock = model_lock(self.model)
        while not (locked := lock.acquire(timeout=_EVERY)) and not stopped():
            pass
        try:
            while locked and not stopped() and not free(self.model, _EVERY):
                pass
            yield locked and not stopped()
        finally:
            if locked:
                lock.release()

    def score(
        self,
        policy: Policy | None,
        *,
        show: Callable[[int], None] = lambda done: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> pd.DataFrame | None:
        """The task's scores, one row per example; None where stopped, or without references."""
        if (task := self.asked.task) is None or not has_references(task):
            return None
        tables: list[pd.DataFrame] = []
        for part in _parts(task):
            with self._turn(stopped) as ours:
                if not ours:
                    return None
                options: dict[str, Any] = {"chat": self.asked.chat, "batch_size": TOGETHER, "progress": False}
                tables.append(evaluate(self.model, self.tokenizer, part, policy=policy, **options))
            show(sum(map(len, tables)))
        return pd.concat(tables, ignore_index=True)

    def _generate(self, prompts: Sequence[str], **options: Any) -> Runs:
        room = {"max_new_tokens": self.asked.max_new_tokens, "chat": self.asked.chat}
        common = {"batch_size": 1, "record": False, "progress": False, **room}
        return generate(self.model, self.tokenizer, prompts, **(common | options))


@dataclass(eq=False)
class _Stream:
    """Shows the passage that is being written, at most ten times a second."""

    tokenizer: Any
    order: list[int]
    ledger: Ledger | None
    show: Callable[[int, Passage], None]
    stopped: Callable[[], bool]
    ids: dict[int, list[int]] = field(default_factory=dict)
    pieces: dict[int, Pieces] = field(default_factory=dict)
    shown: float = 0.0

    def __call__(self, turn: int, token: int) -> bool:
        """Add a token; returns True to stop the run."""
        own = self.ids.setdefault(turn, [])
        own.append(token)
        if time.monotonic() - self.shown > _EVERY and not self.stopped():
            pieces = self.pieces.setdefault(turn, Pieces(self.tokenizer))
            self.show(self.order[turn], passage(pieces, own, self.ledger, turn))
            self.shown = time.monotonic()
        return self.stopped()


def result_of(state: State, written: Written, dense: Sequence[Passage], predicted: SkipRatios) -> Result:
    """The result of a state without its score, compared with the dense model's passages."""
    ledger, passages = written.ledger, written.passages
    return Result(
        state,
        passages,
        predicted=predicted,
        actual=ledger.ratios if ledger else SkipRatios(0.0, 0.0, 0.0),
        speed=written.speed,
        ideal=ledger.ideal if ledger else 1.0,
        agreement=agreed(passages, dense),
        divergence=tuple(divergence(ours, theirs) for ours, theirs in zip(passages, dense, strict=True)),
        collapsed=sum(map(collapsed, passages)),
    )


def passage(pieces: Pieces, ids: Sequence[int], ledger: Ledger | None, sequence: int) -> Passage:
    """A passage: new tokens, their texts, and the layers skipped in the pass that wrote each."""
    return Passage(tuple(ids), tuple(pieces.of(ids)), tuple(_left_out(ledger, sequence, len(ids))))


def _left_out(ledger: Ledger | None, sequence: int, count: int) -> list[tuple[int, ...]]:
    """Layers skipped in the passes that wrote the first `count` new tokens; prefill wrote the first of them."""
    if ledger is None:
        return [()] * count
    tokens = ledger.tokens
    own = tokens["sequence"].to_numpy() == sequence
    rows, generated = ledger.skipped[own], tokens["generated"].to_numpy()[own]  # [token, layer], [token]
    writing = rows[max(int((generated == 0).sum()) - 1, 0) :][:count]  # the end of prefill, and the decode steps
    found = [tuple(np.flatnonzero(row).tolist()) for row in writing]
    return found + [()] * (count - len(found))  # the ledger lacks the current pass


def has_references(task: Task | None) -> bool:
    """Whether a task can be scored without a judge; a conversation can if some turn has a reference reply."""
    if task is None or task.score != "conversation":
        return task is not None
    return any(any(example.replies) for example in task)


def primary(task: Task) -> str:
    """The name of the score that measures the quality of a task."""
    return {"summary": "rouge_L", "conversation": "rouge_L", "text": "nll"}.get(task.score, "correct")


def quality(table: pd.DataFrame, task: Task) -> Score:
    """The task's score with its interval, whose ends are the mean where a single example gives none."""
    found = summarise(table)
    row = found[found["score"] == primary(task)].iloc[0]
    mean, low, high = (float(row[name]) for name in ("mean", "low", "high"))
    return Score(primary(task), int(row["n"]), mean, *((mean, mean) if isnan(low) else (low, high)))


def _parts(task: Task) -> Iterator[Task]:
    for first in range(0, len(task), TOGETHER):
        yield replace(task, examples=task.examples[first : first + TOGETHER])
