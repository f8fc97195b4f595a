"""How much of the ideal saving a skipping run realises, in transformers' `generate` and in our own loop.

Weights are random, so the policy is made to skip a fixed share: blocks are probed behind the cold start, with a
threshold that no cosine reaches, until one layer has a threshold that every cosine reaches; all blocks behind it are
skipped. Time and bytes are those of a real run of the rule; its decisions are not. Each probe costs, so the share is
shown with one probe a token (as where the threshold is met at once) and with six (cold start 3).
The bound is the same loop over a model from which those blocks were taken out beforehand: no rule, no probe, nothing
patched. What it misses of the ideal is time that is not bytes of weights, and no skipping can win it.
Only decode steps are timed, as only they are counted in the ideal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

import saturation as st

from .interleave import interleave, quartiles
from .models import CPU, prompt, random

STEPS, PROMPT = 32, 8  # new tokens, tokens of the prompt


class Numbers:
    """A tokenizer whose text is the token ids themselves."""

    chat_template = None

    def __call__(self, text: str, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[int(word) for word in text.split()])

    def convert_ids_to_tokens(self, number: int) -> str:
        return str(number)

    def convert_tokens_to_string(self, pieces: list[str]) -> str:
        return " ".join(pieces)

    def decode(self, ids: list[int], **_: Any) -> str:
        return " ".join(map(str, ids))


class Clock:
    """A streamer for transformers' `generate` that takes the time from the first new token to the last."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Any) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass

    @property
    def seconds(self) -> float:
        return self.times[-1] - self.times[1]  # the first call hands over the prompt


def rule(layers: int, skipped: int, probes: int) -> st.FFNSkip:
    """Probes so many layers, then skips the last blocks, at every decoded token."""
    last = layers - skipped - 1
    thresholds = [1.0 if layer < last else -1.0 for layer in range(layers)]
    return st.FFNSkip(tuple(thresholds), cold_start=last - probes + 1, warmup=0)


class Zero(nn.Module):
    """An FFN that adds nothing and reads no weights."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


@contextmanager
def without(model: PreTrainedModel, skipped: int) -> Iterator[None]:
    """A LLaMA whose last so many feed-forward blocks, norms included, are not there."""
    layers = model.model.layers[len(model.model.layers) - skipped :]
    before = [(layer.post_attention_layernorm, layer.mlp) for layer in layers]
    for layer in layers:
        layer.post_attention_layernorm, layer.mlp = nn.Identity(), Zero()
    try:
        yield
    finally:
        for layer, (norm, mlp) in zip(layers, before, strict=True):
            layer.post_attention_layernorm, layer.mlp = norm, mlp


def shares(
    rounds: int = 20, device: torch.device = CPU, *, layers: int = 12, hidden: int = 1024, skipped: int = 3
) -> pd.DataFrame:
    """Realised against ideal speed-up, for the FFN widths of LLaMA-2 and of LLaMA-3."""
    parts, notes = [], []
    for family, inner in {"LLaMA-2": 8 / 3, "LLaMA-3": 3.5}.items():
        part, said = _shares(partial(random, layers, hidden, inner, device=device), rounds, skipped)
        parts.append(part.assign(FFN=f"{inner:.2f} x wide, as in {family}"))
        notes += [f"{family} width: {note}" for note in said]
    table = pd.concat(parts)[["FFN", *parts[0].columns.drop("FFN")]]
    table.attrs["notes"] = [
        f"random LLaMA, {layers} layers, {hidden} wide, float32, batch 1, {skipped} of {layers} FFNs skipped at every "
        f"decoded token; a prompt of {PROMPT} tokens and {STEPS} new ones, decode steps timed; {rounds} rounds, shared "
        f"by {min(MODELS, rounds)} models built one after the other, as it matters where weights lie in memory",
        *notes,
    ]
    return table


PROBES = (1, 6)  # layers measured per token before the threshold is met
MODELS = 4


def _shares(build: Callable[[], PreTrainedModel], rounds: int, skipped: int) -> tuple[pd.DataFrame, list[str]]:
    each = [len(own) for own in np.array_split(range(rounds), min(MODELS, rounds))]
    timed, ideals = zip(*(_timed(build(), count, skipped) for count in each), strict=True)
    seconds, ideal = pd.concat(timed, ignore_index=True), ideals[0]
    names = {"generate": "transformers' generate", "loop": "saturation.generate"}
    rows = [
        _row(name, probes, seconds[where] / seconds[f"{where} {probes}"], ideal[probes])
        for where, name in names.items()
        for probes in PROBES
    ]
    rows.append(_row("the bound: blocks taken out beforehand", 0, seconds["loop"] / seconds["bound"], ideal[1]))
    cost = quartiles(seconds["recording"] / seconds["loop 1"] - 1)
    against = quartiles(seconds["loop"] / seconds["generate"])
    return pd.DataFrame(rows), [
        f"{1000 * seconds['loop'].median() / (STEPS - 1):.1f} ms a token dense; recording on top of skipping costs "
        f"{cost[0]:+.1%} [{cost[1]:+.1%}, {cost[2]:+.1%}]; our dense loop takes {against[0]:.3f} [{against[1]:.3f}, "
        f"{against[2]:.3f}] of the time of dense generate"
    ]


def _timed(model: PreTrainedModel, rounds: int, skipped: int) -> tuple[pd.DataFrame, dict[int, float]]:
    """Seconds of the decode steps, [round, variant], and the ideal speed-up by the number of probes."""
    policies = {probes: rule(model.config.num_hidden_layers, skipped, probes) for probes in PROBES}
    tokenizer, ids = Numbers(), prompt(model, PROMPT)
    text = tokenizer.decode(ids[0].tolist())

    def theirs(policy: Any = None) -> float:
        clock = Clock()
        options: dict[str, Any] = {"max_new_tokens": STEPS, "do_sample": False, "pad_token_id": 0, "streamer": clock}
        with nullcontext() if policy is None else st.skip(model, policy):
            model.generate(ids, **options)
        return clock.seconds

    def run(policy: Any = None, record: bool = False) -> st.generation.Runs:
        options: dict[str, Any] = {"max_new_tokens": STEPS, "progress": False, "record": record}
        return st.generate(model, tokenizer, text, policy=policy, **options)

    def ours(policy: Any = None, record: bool = False) -> float:
        return run(policy, record).seconds["decode"]

    def bound() -> float:
        with without(model, skipped):
            return ours()

    variants: dict[str, Callable[[], object]] = {"generate": theirs, "loop": ours}
    for probes, policy in policies.items():
        variants[f"generate {probes}"] = partial(theirs, policy)
        variants[f"loop {probes}"] = partial(ours, policy)
    variants |= {"recording": partial(ours, policies[1], record=True), "bound": bound}
    return interleave(variants, rounds), {probes: run(policy).ledger.ideal for probes, policy in policies.items()}


def _row(name: str, probes: int, realised: pd.Series, ideal: float) -> dict[str, Any]:
    middle, low, high = quartiles(realised)
    share = [(1 - 1 / value) / (1 - 1 / ideal) for value in (middle, low, high)]
    return {
        "in": name,
        "probes a token": probes,
        "ideal": f"{ideal:.3f}x",
        "realised": f"{middle:.3f}x",
        "quartiles": f"{low:.3f} .. {high:.3f}",
        "share of the saving": f"{share[0]:.2f} [{share[1]:.2f}, {share[2]:.2f}]",
    }
