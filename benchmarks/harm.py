"""What one pass of harm costs beside a plain forward over the same texts."""

from __future__ import annotations

import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

import saturation as st
from saturation.anatomy import find_blocks
from saturation.recording import padded

from .interleave import interleave, quartiles
from .models import CPU, demo, prompt, random

TEXTS, LENGTH = 4, 128


class Ids:
    """A tokenizer that is asked for nothing: texts are given as ids."""

    def convert_ids_to_tokens(self, number: int) -> str:
        return str(number)

    def convert_tokens_to_string(self, pieces: list[str]) -> str:
        return "".join(pieces)


def cost(model: PreTrainedModel, rounds: int) -> dict[str, object]:
    """A row of the table: seconds of a plain forward, with all its logits, and of one pass of harm over it."""
    texts = [ids.tolist() for ids in prompt(model, TEXTS * LENGTH).reshape(TEXTS, LENGTH)]
    layers = len(find_blocks(model))
    ids, mask = padded(texts, "right", model.device)

    def plain() -> object:
        with torch.no_grad():
            return model(input_ids=ids, attention_mask=mask, use_cache=False).logits.shape

    def measured(**options: bool) -> object:
        return st.harm(model, Ids(), texts, batch_size=TEXTS, progress=False, **options)

    work = {"plain": plain, "harm": measured, "estimate": lambda: measured(estimate=True)}
    seconds = interleave(work, rounds)
    middle, low, high = quartiles(seconds["harm"] / (layers + 1) / seconds["plain"])
    estimate, *_ = quartiles(seconds["estimate"] / seconds["plain"])
    return {
        "plain forward, ms": 1000 * seconds["plain"].median(),
        "pass of harm, ms": 1000 * seconds["harm"].median() / (layers + 1),
        "ratio, median": f"{middle:.2f}",
        "quartiles": f"{low:.2f} .. {high:.2f}",
        "estimate of all layers, ratio": f"{estimate:.2f}",
        "rounds": rounds,
    }


def passes(rounds: int = 10, device: torch.device = CPU) -> pd.DataFrame:
    made = {
        "demo (16 x 128)": lambda: demo(device),
        "random 8 x 512, 16,384 tokens": lambda: random(8, 512, vocabulary=16_384, device=device),
    }
    table = pd.DataFrame([{"model": name, **cost(make(), rounds)} for name, make in tqdm(made.items(), desc="harm")])
    table.attrs["notes"] = [
        f"{TEXTS} texts of {LENGTH} tokens. A plain forward makes the logits of all positions. Harm takes a pass per "
        "layer and a dense one: the time of all divided by their number, the dense distributions, which are made anew "
        "for every layer, and the float64 KL included."
    ]
    return table
