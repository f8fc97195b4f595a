"""How often decoding crosses between the far device and the host: counts per decoded token, as JSON.

A process of its own, since a device once named in torch stays there for all that comes after.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch

import saturation as st
from saturation.policies import Arrays
from tests.families import HIDDEN, VOCABULARY, build
from tests.far import crossings, moved
from tests.tokens import Words

NEW, FIRST = 20, 3  # tokens written, and the one that counting starts at: 16 decode steps, which are summed together
PROMPTS = {1: ["a b c d e f"], 3: ["a b c d e f", "d e f g h i", "k l m n o p"]}
CASES = ((3, 1), (5, 1), (3, 3))  # layers and sequences side by side


def policies(layers: int, name: str) -> dict[str, st.policies.Policy | None]:
    draws = np.random.default_rng(0)
    table = {
        "ids": np.arange(VOCABULARY),
        "harm": draws.random((VOCABULARY, layers), np.float32),
        "mean": draws.random(layers, np.float32),
    }
    weights = {"weight": draws.normal(size=(HIDDEN, layers - 1)).astype(np.float32), "bias": np.zeros(layers - 1)}
    late = (1.0,) * (layers - 2) + (-1.0, None)  # met by the last block that is probed
    return {
        "dense": None,
        "static": st.StaticFFN(layers=(1,), sink=0),
        "random": st.RandomFFN(1 / 3, sink=0),
        "table": st.TokenFFN(1, Arrays(table), name, VOCABULARY, sink=0),
        "router": st.RoutedFFN(1, 0, Arrays(weights), name, VOCABULARY, sink=0),
        "causal": st.FFNSkip(late, warmup=0, sink=1, causal=True),
        "rule": st.FFNSkip(late, warmup=0, sink=1),
    }


def counted(model: torch.nn.Module, policy: st.policies.Policy | None, batch: int) -> dict[str, list[float]]:
    """What crosses to the host and from it: per decode step, and once at the end."""
    at: dict[int, tuple[int, int]] = {}
    options = {"max_new_tokens": NEW, "batch_size": batch, "progress": False}
    with crossings() as seen:

        def written(prompt: int, token: int) -> None:
            if prompt == batch - 1:
                at[len(at) + 1] = len(seen.down), len(seen.up)

        runs = st.generate(model, Words(), PROMPTS[batch], policy=policy, on_token=written, **options)
        if runs.ledger is not None:
            assert runs.ledger.skipped.any()
        end = len(seen.down), len(seen.up)
    assert len(runs.trace) == batch * (len(PROMPTS[1][0].split()) + NEW - 1), "no sequence ended early"
    steps = [(at[NEW - 1][way] - at[FIRST][way]) / (NEW - 1 - FIRST) for way in (0, 1)]
    return {"step": steps, "end": [end[way] - at[NEW][way] for way in (0, 1)]}


def main() -> None:
    models = {layers: build("llama", num_hidden_layers=layers, eos_token_id=None) for layers, _ in CASES}
    found = {}
    for layers, batch in CASES:
        far = moved(models[layers])
        for name, policy in policies(layers, far.config.model_type).items():
            found[f"{name} {layers} {batch}"] = counted(far, policy, batch)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
