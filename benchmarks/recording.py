"""What recording costs over a decoded token, beside the hook that people write by hand."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

import saturation as st
from saturation.anatomy import find_blocks

from .interleave import interleave, quartiles
from .models import CPU, decode, demo, prompt, random

STEPS = 96


@contextmanager
def plain_hook(model: PreTrainedModel):
    """The usual notebook cell: F.cosine_similarity in a forward hook, appended to a list."""
    seen: list[float] = []
    inputs: dict[int, torch.Tensor] = {}
    handles = []
    for block in find_blocks(model):

        def before(module, args, layer=block.index):
            inputs[layer] = args[0]

        def after(module, args, output, layer=block.index):
            h = inputs[layer]
            seen.append(torch.nn.functional.cosine_similarity(h, h + output, dim=-1)[0, -1].item())

        handles += [block.chain[0].register_forward_pre_hook(before), block.source.register_forward_hook(after)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def cost(model: PreTrainedModel, rounds: int) -> pd.DataFrame:
    """Rows of the cost table for one model: per variant the time of a token over that without recording."""
    ids = prompt(model)

    def recorded() -> None:
        with st.recording.watch(model) as recorder:
            decode(model, ids, STEPS)
        recorder.trace()

    def hooked() -> None:
        with plain_hook(model):
            decode(model, ids, STEPS)

    seconds = interleave({"off": lambda: decode(model, ids, STEPS), "saturation": recorded, "hook": hooked}, rounds)
    rows = []
    for name, label in (("saturation", "`watch` + `trace()`"), ("hook", "hook + F.cosine_similarity + list")):
        middle, low, high = quartiles(seconds[name] / seconds["off"] - 1)
        rows.append(
            {
                "recorder": label,
                "ms / token without": 1000 * seconds["off"].median() / STEPS,
                "cost, median": f"{middle:+.1%}",
                "quartiles": f"{low:+.1%} .. {high:+.1%}",
                "rounds": rounds,
            }
        )
    return pd.DataFrame(rows)


def costs(rounds: int = 15, device: torch.device = CPU) -> pd.DataFrame:
    models: dict[str, Callable[[], PreTrainedModel]] = {
        "demo (16 x 128)": lambda: demo(device),
        "random 12 x 768": lambda: random(12, 768, device=device),
    }
    parts = []
    for name, make in tqdm(models.items(), desc="recording"):
        parts.append(cost(make(), rounds).assign(model=name))
    table = pd.concat(parts)
    return table[["model", *table.columns.drop("model")]]


def million(tokens: int = 1_000_000, layers: int = 32) -> pd.DataFrame:
    """Save and load a trace of a million tokens."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "sequence": np.arange(tokens, dtype=np.int32) // 1000,
            "position": np.arange(tokens, dtype=np.int32) % 1000,
            "phase": pd.Categorical.from_codes(np.ones(tokens, dtype=int), categories=["prefill", "decode"]),
            "token_id": rng.integers(0, 1000, tokens, dtype=np.int32),
            "text": "word",
        }
    )
    distance = rng.lognormal(-6, 1, (tokens, layers)).astype(np.float32).clip(max=2)
    trace = st.Trace(frame, distance, np.sqrt(2 * distance), np.zeros((tokens, layers), dtype=bool), model="random")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.parquet"
        began = time.perf_counter()
        trace.save(path)
        saved = time.perf_counter()
        again = st.Trace.load(path)
        loaded = time.perf_counter()
        assert again.equals(trace)
        size = path.stat().st_size / 2**20
    row = {"tokens x layers": f"{tokens:,} x {layers}", "save, s": saved - began, "load, s": loaded - saved}
    return pd.DataFrame([{**row, "file, MiB": size}])
