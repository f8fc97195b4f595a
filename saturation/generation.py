"""Text generation, dense or skipping: prefill, then one token at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedModel, TemperatureLogitsWarper, TopPLogitsWarper

from .policies import Policy
from .progress import bar
from .recording import Text, encode, end_ids, greedy, steps, watch
from .skipping import Ledger, skip
from .trace import Trace


@dataclass(frozen=True, eq=False)
class Runs:
    """The result of `generate`.

    Attributes
    ----------
    texts
        New text of each prompt, without the prompt and without the end token.
    ids
        The new token ids of each prompt, an end token included.
    trace
        The recorded trace, or None.
    ledger
        The record of what was skipped, or None for a dense run.
    seconds
        Wall-clock time by phase: "prefill" and "decode".
    finished
        False where a callback stopped the run before its end.
    """

    texts: list[str]
    ids: list[list[int]]
    trace: Trace | None
    ledger: Ledger | None
    seconds: dict[str, float]
    finished: bool = True

    @property
    def tokens_per_second(self) -> float:
        """Decoded tokens per second of decode time, without the token that prefill gives."""
        return sum(max(len(ids) - 1, 0) for ids in self.ids) / max(self.seconds["decode"], 1e-9)


@dataclass(frozen=True)
class Sampling:
    """Choice of the next token: greedy at temperature 0, else drawn with one random generator per sequence."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature >= 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                f"expected temperature >= 0 and 0 < top_p <= 1, got {self.temperature} and {self.top_p}; "
                "temperature 0 is greedy decoding"
            )


def generate(
    model: PreTrainedModel,
    tokenizer: Any,
    prompts: str | Sequence[Text],
    *,
    policy: Policy | None = None,
    max_new_tokens: int = 64,
    sampling: Sampling = Sampling(),
    chat: bool = False,
    batch_size: int = 8,
    record: bool = True,
    on_token: Callable[[int, int], bool | None] | None = None,
    progress: bool = True,
) -> Runs:
    """Generate text after each prompt, skipping feed-forward blocks by a policy.

    The model's generation config is used for the end tokens only. For beams, penalties or other logits processors call
    the model's own `generate` inside `skip`.

    Parameters
    ----------
    model, tokenizer
        As `load` gives them.
    prompts
        A text, or several; a list of token ids in place of a text is used as it is.
    policy
        Which blocks to skip; None is the dense model.
    max_new_tokens
        Most new tokens per prompt; a sequence ends earlier at the model's end token.
    sampling
        Greedy by default; the seed is that of each sequence, so that batching does not change a text.
    chat
        True wraps each prompt as a user's turn in the tokenizer's chat template.
    batch_size
        Prompts per batch. Above 1 a block's weights are read unless every sequence skips it.
    record
        False leaves the trace out.
    on_token
        Called with (number of the prompt, token id) for each new token; return True to stop the whole run before
        its next step.
    progress
        Show a bar where there is a terminal or a notebook.

    Returns
    -------
    Runs
        New texts, trace, ledger and timing.

    Raises
    ------
    ValueError
        As for `record` and `skip`.
    KeyboardInterrupt
        Raised again; the model is restored.
    """
    if not all(isinstance(number, Integral) and number >= 1 for number in (max_new_tokens, batch_size)):
        raise ValueError(
            f"expected max_new_tokens and batch_size to be whole numbers from 1, got {max_new_tokens} and {batch_size}"
        )
    rows, _ = encode(model, tokenizer, prompts, chat=chat, room=max_new_tokens)
    loop = _Loop(model, max_new_tokens, sampling, on_token or (lambda prompt, token: None))
    with ExitStack() as stack, torch.no_grad(), bar(total=len(rows), desc="generating", progress=progress) as going:
        ledger = stack.enter_context(skip(model, policy)) if policy is not None else None
        recorder = stack.enter_context(watch(model, tokenizer=tokenizer)) if record else None
        if recorder is not None:
            recorder.provenance.update(_provenance(policy, max_new_tokens, sampling, chat))
        for first in range(0, len(rows), batch_size):
            if not loop.run(rows[first : first + batch_size]):
                break
            going.update(min(batch_size, len(rows) - first))
    loop.ids += [[] for _ in rows[len(loop.ids) :]]
    return Runs(
        texts=[tokenizer.decode(ids, skip_special_tokens=True) for ids in loop.ids],
        ids=loop.ids,
        trace=recorder.trace(complete=not loop.stopped) if recorder else None,
        ledger=ledger,
        seconds=loop.seconds,
        finished=not loop.stopped,
    )


@dataclass(eq=False)
class _Loop:
    """Prefill and decode of one batch after another."""

    model: PreTrainedModel
    limit: int
    sampling: Sampling
    on_token: Callable[[int, int], bool | None]
    ids: list[list[int]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"prefill": 0.0, "decode": 0.0})
    stopped: bool = False

    def run(self, rows: list[list[int]]) -> bool:
        """Decode one batch; False when the callback stopped the run."""
        first = len(self.ids)
        self.ids += [[] for _ in rows]
        numbers = range(first, first + len(rows))
        batch, phase = steps(self.model, rows, _Chooser(self.sampling, numbers)), "prefill"
        ends, open_ = end_ids(self.model), set(numbers)
        while open_ and not self.stopped:
            began = time.perf_counter()
            tokens = next(batch)
            self.seconds[phase] += time.perf_counter() - began
            phase = "decode"
            for number, token in zip(numbers, tokens.tolist(), strict=True):
                if number not in open_:
                    continue
                self.ids[number].append(token)
                self.stopped |= bool(self.on_token(number, token))
                if token in ends or len(self.ids[number]) == self.limit:
                    open_.remove(number)
        return not self.stopped


class _Chooser:
    """Chooses the next token from the logits; every sequence has its own random generator."""

    def __init__(self, sampling: Sampling, numbers: range) -> None:
        self.greedy = sampling.temperature == 0
        if not self.greedy:
            self.warp: Any = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
            if sampling.top_p < 1:
                self.warp.append(TopPLogitsWarper(sampling.top_p))
            self.draws = [torch.Generator().manual_seed(sampling.seed * 1_000_003 + number) for number in numbers]

    def __call__(self, logits: Tensor) -> Tensor:
        if self.greedy:
            return greedy(logits)
        chances = self.warp(None, logits.float().cpu()).softmax(dim=-1)  # [batch, vocabulary]
        drawn = [torch.multinomial(row, 1, generator=own) for row, own in zip(chances, self.draws, strict=True)]
        return torch.cat(drawn)


def _provenance(policy: Policy | None, max_new_tokens: int, sampling: Sampling, chat: bool) -> dict[str, Any]:
    return {
        "mode": "generated",
        "policy": policy.to_json() if policy is not None else None,
        "max_new_tokens": max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "chat": chat,
    }
