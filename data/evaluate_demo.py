"""Recompute every number of the model card: ``python -m data.evaluate_demo``.

With ``--write`` the tables are put into data/README.md, between the marks that are there for them.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import pandas as pd
import torch
from transformers import AutoModelForCausalLM

from data.dialogue import replies
from data.layerwise import batches, loss, losses, single_skips, turning
from data.page import put, table
from data.tokens import load_tokenizer
from data.training import initial
from saturation.quality import evaluate, summarise
from saturation.quality.intervals import ratio_interval
from saturation.tasks import Task, bundled

HERE = Path(__file__).resolve().parent
WRITTEN = ("factoid", "factoid_heldout", "problems")
CHOSEN = ("choices", "entailment")


def answer_table(model, tokenizer, examples: int | None) -> list[str]:
    """Right answers by task and kind, with Wilson intervals: written greedily, or the likeliest of the choices."""
    tasks = [*map(bundled, WRITTEN), replies(0), replies(1), *map(bundled, CHOSEN)]
    rows = []
    for task in tasks:
        for row in _scored(model, tokenizer, task, "correct", examples):
            name, low, high = f"**{task.name}**" if row["kind"] == "all" else "", 100 * row["low"], 100 * row["high"]
            share = f"{100 * row['mean']:.1f} %"
            rows.append([name, row["kind"], f"{row['n']}", share, f"{low:.1f} to {high:.1f} %"])
    return table({"task": "<", "kind": "<", "n": ">", "right": ">", "95 % interval (Wilson)": "<"}, rows)


def summary_table(model, tokenizer, examples: int | None) -> list[str]:
    """ROUGE-L of greedy summaries by length."""
    rows = [
        [row["kind"], f"{row['n']}", f"{row['mean']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}"]
        for row in _scored(model, tokenizer, bundled("summaries"), "rouge_L", examples)
    ]
    return table({"articles": "<", "n": ">", "ROUGE-L": ">", "95 % interval (bootstrap)": "<"}, rows)


def _scored(model, tokenizer, task: Task, score: str, examples: int | None) -> list[dict]:
    """One score of a task, or of its first examples: over all of them, then by kind."""
    own = evaluate(model, tokenizer, task.head(examples or len(task)), batch_size=100, progress=False)
    found = pd.concat([summarise(own.assign(kind="all"), by=("kind",)), summarise(own, by=("kind",))])
    return found[found["score"] == score].to_dict("records")


def perplexity_table(model, control, tokenizer) -> list[str]:
    """Held-out loss and perplexity by kind of text, beside the untrained model."""
    rows = []
    kinds: dict[str, list[str]] = {}
    for example in bundled("validation"):
        kinds.setdefault(example.kind, []).append(example.text)
    for kind, texts in (kinds | {"stories.jsonl": [example.text for example in bundled("stories")]}).items():
        made = batches(tokenizer, texts, device=model.device)
        means, counts = losses(model, made)
        low, high = ratio_interval(means * counts, counts)
        nats, base = float((means * counts).sum() / counts.sum()), loss(control, made)
        loss_of = [f"{nats:.3f}", f"{low:.3f} to {high:.3f}", f"{math.exp(nats):.2f}", f"{math.exp(base):,.0f}"]
        rows.append([kind, f"{len(texts)}", f"{counts.sum():,}", *loss_of])
    heads = {"text": "<", "n": ">", "tokens": ">", "nats per token": ">", "95 % interval": "<"}
    return table(heads | {"perplexity": ">", "untrained": ">"}, rows)


def layer_table(model, control, tokenizer, *, texts: int) -> list[str]:
    """Turning, growth and the cost of one skipped sublayer, per layer, beside the same-seed untrained model."""
    made = batches(tokenizer, [example.text for example in bundled("validation").head(texts)], device=model.device)
    ours, theirs = turning(model, made), turning(control, made)
    ffn, attention = single_skips(model, made, "mlp"), single_skips(model, made, "self_attn")
    plain = single_skips(control, made, "mlp")
    heads = ["layer", "cos(h, h + FFN)", "untrained", "FFN norm / h norm", "untrained ", "NLL rise, FFN skipped",
             "attention skipped", "untrained, FFN skipped"]  # fmt: skip
    rows = [
        [
            f"{i}",
            *(f"{value:.4f}" for value in (ours.cosine[i], theirs.cosine[i])),
            *(f"{value:.3f}" for value in (ours.growth[i], theirs.growth[i])),
            *(f"{value:+.4f}" for value in (ffn[i], attention[i], plain[i])),
        ]
        for i in range(len(ffn))
    ]
    return table(dict.fromkeys(heads, ">"), rows)


def report(folder: Path, *, texts: int, device: str, examples: int | None = None) -> str:
    """All tables, in markdown."""
    tokenizer = load_tokenizer(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    control = initial(model.config).to(device).eval()
    answers = answer_table(model, tokenizer, examples)
    tables = {
        "Answers (greedy with normalised exact match; of choices the likeliest)": answers,
        "Summaries": summary_table(model, tokenizer, examples),
        "Held-out text": perplexity_table(model, control, tokenizer),
        f"Layer by layer, on the first {texts} validation texts": layer_table(model, control, tokenizer, texts=texts),
    }
    return "\n\n".join(f"#### {title}\n\n" + "\n".join(rows) for title, rows in tables.items())


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.evaluate_demo", description=__doc__)
    parser.add_argument("--model", type=Path, default=HERE / "demo-model", help="folder of the trained model")
    parser.add_argument("--texts", type=int, default=80, help="validation texts for the layer-by-layer table")
    parser.add_argument("--examples", type=int, help="of each task, the first so many; all by default")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--write", action="store_true", help="put the tables into data/README.md")
    options = parser.parse_args(argv)
    tables = report(options.model, texts=options.texts, device=options.device, examples=options.examples)
    print(tables)
    if options.write:
        put("measured", tables)


if __name__ == "__main__":
    main()
