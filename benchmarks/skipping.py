"""How much of the ideal saving a skipping run realises, in transformers' `generate` and in our own loop.

Weights are random, so the policy is made to skip a fixed share: blocks are probed from layer 3 on, with a threshold
that no cosine reaches, until one layer has a threshold that every cosine reaches; all blocks behind it are skipped.
Time and bytes are those of a real run of the rule; its decisions are not.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd

import saturation as st

from .interleave import interleave, quartiles
from .models import prompt, random

STEPS = 24


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
    """Realised against ideal speed-up, dense and skipping in turns."""
    model = random(layers, hidden)
    policy, tokenizer = rule(layers, skipped), Numbers()
    text = tokenizer.decode(prompt(model)[0].tolist())
    ideal = st.generate(model, tokenizer, text, policy=policy, max_new_tokens=STEPS, progress=False).ledger.ideal

    def theirs() -> None:
        model.generate(prompt(model), max_new_tokens=STEPS, do_sample=False, pad_token_id=0)

    def theirs_skipping() -> None:
        with st.skip(model, policy):
            theirs()

    def ours(policy: Any = None, record: bool = False) -> None:
        options: dict[str, Any] = {"max_new_tokens": STEPS, "progress": False, "record": record}
        st.generate(model, tokenizer, text, policy=policy, **options)

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
        _row("saturation.generate, recording", seconds["loop dense"] / seconds["loop skipping, recording"], ideal),
    ]
    cost = quartiles(seconds["loop skipping, recording"] / seconds["loop skipping"] - 1)
    against = quartiles(seconds["loop dense"] / seconds["generate dense"])
    table = pd.DataFrame(rows)
    table.attrs["notes"] = [
        f"random LLaMA, {layers} layers, {hidden} wide, float32, batch 1; {skipped} of {layers} FFNs skipped at every "
        f"decoded token; {STEPS} new tokens, {rounds} rounds; dense: "
        f"{1000 * seconds['loop dense'].median() / STEPS:.1f} ms a token",
        f"recording on top of skipping: {cost[0]:+.1%} [{cost[1]:+.1%}, {cost[2]:+.1%}] of the time",
        f"our dense loop takes {against[0]:.3f} [{against[1]:.3f}, {against[2]:.3f}] of the time of dense generate",
    ]
    return table


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
