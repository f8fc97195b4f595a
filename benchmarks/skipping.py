"""How much of the ideal saving a skipping run realises, in transformers' `generate` and in our own loop.

Weights are random, so the policy is made to skip a fixed share: blocks are probed from layer 3 on, with a threshold
that no cosine reaches, until one layer has a threshold that every cosine reaches; all blocks behind it are skipped.
Time and bytes are those of a real run of the rule; its decisions are not.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
from transformers import PreTrainedModel

import saturation as st

from .interleave import interleave, quartiles
from .models import prompt, random

STEPS, PROMPT = 64, 8  # new tokens, tokens of the prompt


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


def rule(layers: int, skipped: int) -> st.FFNSkip:
    """Probes from layer 3, skips the last blocks at every decoded token."""
    last = layers - skipped - 1
    thresholds = [1.0 if layer < last else -1.0 for layer in range(layers)]
    return st.FFNSkip(tuple(thresholds), cold_start=3, warmup=0)


def shares(rounds: int = 9, layers: int = 12, hidden: int = 1024, skipped: int = 3) -> pd.DataFrame:
    """Realised against ideal speed-up, for the FFN widths of LLaMA-2 and of LLaMA-3."""
    parts, notes = [], []
    for family, inner in {"LLaMA-2": 8 / 3, "LLaMA-3": 3.5}.items():
        part, said = _shares(random(layers, hidden, inner), rounds, skipped)
        parts.append(part.assign(FFN=f"{inner:.2f} x wide, as in {family}"))
        notes += [f"{family} width: {note}" for note in said]
    table = pd.concat(parts)[["FFN", *parts[0].columns.drop("FFN")]]
    table.attrs["notes"] = [
        f"random LLaMA, {layers} layers, {hidden} wide, float32, batch 1, {skipped} of {layers} FFNs skipped at every "
        f"decoded token; a prompt of {PROMPT} tokens and {STEPS} new ones, prefill included; {rounds} rounds",
        *notes,
    ]
    return table


def _shares(model: PreTrainedModel, rounds: int, skipped: int) -> tuple[pd.DataFrame, list[str]]:
    policy, tokenizer, ids = rule(model.config.num_hidden_layers, skipped), Numbers(), prompt(model, PROMPT)
    text = tokenizer.decode(ids[0].tolist())

    def theirs() -> None:
        model.generate(ids, max_new_tokens=STEPS, do_sample=False, pad_token_id=0)

    def theirs_skipping() -> None:
        with st.skip(model, policy):
            theirs()

    def ours(policy: Any = None, record: bool = False) -> st.generation.Runs:
        options: dict[str, Any] = {"max_new_tokens": STEPS, "progress": False, "record": record}
        return st.generate(model, tokenizer, text, policy=policy, **options)

    ideal = ours(policy).ledger.ideal
    seconds = interleave(
        {
            "generate dense": theirs,
            "generate skipping": theirs_skipping,
            "loop dense": ours,
            "loop skipping": lambda: ours(policy),
            "loop skipping, recording": lambda: ours(policy, record=True),
        },
        rounds,
    )
    rows = [
        _row("transformers' generate", seconds["generate dense"] / seconds["generate skipping"], ideal),
        _row("saturation.generate", seconds["loop dense"] / seconds["loop skipping"], ideal),
    ]
    cost = quartiles(seconds["loop skipping, recording"] / seconds["loop skipping"] - 1)
    against = quartiles(seconds["loop dense"] / seconds["generate dense"])
    return pd.DataFrame(rows), [
        f"{1000 * seconds['loop dense'].median() / STEPS:.1f} ms a token dense; recording on top of skipping costs "
        f"{cost[0]:+.1%} [{cost[1]:+.1%}, {cost[2]:+.1%}]; our dense loop takes {against[0]:.3f} [{against[1]:.3f}, "
        f"{against[2]:.3f}] of the time of dense generate"
    ]


def _row(name: str, realised: pd.Series, ideal: float) -> dict[str, Any]:
    middle, low, high = quartiles(realised)
    share = [(1 - 1 / value) / (1 - 1 / ideal) for value in (middle, low, high)]
    return {
        "in": name,
        "ideal": f"{ideal:.3f}x",
        "realised": f"{middle:.3f}x",
        "quartiles": f"{low:.3f} .. {high:.3f}",
        "share of the saving": f"{share[0]:.2f} [{share[1]:.2f}, {share[2]:.2f}]",
    }
