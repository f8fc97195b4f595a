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

from data.layerwise import batches, loss, losses, single_skips, turning
from data.tokens import load_tokenizer
from data.training import initial
from saturation.quality import evaluate, summarise
from saturation.quality.intervals import ratio_interval
from saturation.tasks import bundled

HERE = Path(__file__).resolve().parent
QUESTIONS = ("factoid", "factoid_heldout", "problems")
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def answer_tables(model, tokenizer) -> tuple[list[str], list[str]]:
    """Exact match of greedy answers by task and kind with Wilson intervals; ROUGE-L of greedy summaries by length."""
    answers = ["| task | kind | n | accuracy | 95 % interval (Wilson) |", "|---|---|--:|--:|---|"]
    for task in QUESTIONS:
        for row in _scored(model, tokenizer, task, "correct"):
            name = f"**{task}**" if row["kind"] == "all" else ""
            low, high = 100 * row["low"], 100 * row["high"]
            answers.append(
                f"| {name} | {row['kind']} | {row['n']} | {100 * row['mean']:.1f} % | {low:.1f} to {high:.1f} % |"
            )
    summaries = ["| articles | n | ROUGE-L | 95 % interval (bootstrap) |", "|---|--:|--:|---|"]
    for row in _scored(model, tokenizer, "summaries", "rouge_L"):
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        summaries.append(f"| {row['kind']} | {row['n']} | {row['mean']:.3f} | {interval} |")
    return answers, summaries


def _scored(model, tokenizer, task: str, score: str) -> list[dict]:
    """One score of a task: over all examples, then by kind."""
    table = evaluate(model, tokenizer, bundled(task), batch_size=48)
    found = pd.concat([summarise(table.assign(kind="all"), by=("kind",)), summarise(table, by=("kind",))])
    return found[found["score"] == score].to_dict("records")


def perplexity_table(model, control, tokenizer) -> list[str]:
    """Held-out loss and perplexity by kind of text, beside the untrained model."""
    rows = [
        "| text | n | tokens | nats per token | 95 % interval | perplexity | untrained |",
        "|---|--:|--:|--:|---|--:|--:|",
    ]
    kinds: dict[str, list[str]] = {}
    for example in bundled("validation"):
        kinds.setdefault(example.kind, []).append(example.text)
    for kind, texts in (kinds | {"stories.jsonl": [example.text for example in bundled("stories")]}).items():
        made = batches(tokenizer, texts)
        means, counts = losses(model, made)
        low, high = ratio_interval(means * counts, counts)
        nats, base = float((means * counts).sum() / counts.sum()), loss(control, made)
        rows.append(
            f"| {kind} | {len(texts)} | {counts.sum():,} | {nats:.3f} | {low:.3f} to {high:.3f} "
            f"| {math.exp(nats):.2f} | {math.exp(base):,.0f} |"
        )
    return rows


def layer_table(model, control, tokenizer, *, texts: int) -> list[str]:
    """Turning, growth and the cost of one skipped sublayer, per layer, beside the same-seed untrained model."""
    made = batches(tokenizer, [example.text for example in bundled("validation").head(texts)])
    ours, theirs = turning(model, made), turning(control, made)
    ffn, attention = single_skips(model, made, "mlp"), single_skips(model, made, "self_attn")
    plain = single_skips(control, made, "mlp")
    rows = [
        "| layer | cos(h, h + FFN) | untrained | FFN norm / h norm | untrained "
        "| NLL rise, FFN skipped | attention skipped | untrained, FFN skipped |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for i in range(len(ffn)):
        turned = f"{ours.cosine[i]:.4f} | {theirs.cosine[i]:.4f} | {ours.growth[i]:.3f} | {theirs.growth[i]:.3f}"
        rows.append(f"| {i} | {turned} | {ffn[i]:+.4f} | {attention[i]:+.4f} | {plain[i]:+.4f} |")
    return rows


def report(folder: Path, *, texts: int) -> str:
    """All tables, in markdown."""
    tokenizer = load_tokenizer(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    control = initial(model.config).eval()
    answers, summaries = answer_tables(model, tokenizer)
    tables = {
        "Answers (greedy, new text only, normalised exact match)": answers,
        "Summaries": summaries,
        "Held-out text": perplexity_table(model, control, tokenizer),
        f"Layer by layer, on the first {texts} validation texts": layer_table(model, control, tokenizer, texts=texts),
    }
    return "\n\n".join(f"#### {title}\n\n" + "\n".join(rows) for title, rows in tables.items())


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.evaluate_demo", description=__doc__)
    parser.add_argument("--model", type=Path, default=HERE / "demo-model", help="folder of the trained model")
    parser.add_argument("--texts", type=int, default=80, help="validation texts for the layer-by-layer table")
    parser.add_argument("--write", action="store_true", help="put the tables into data/README.md")
    options = parser.parse_args(argv)
    tables = report(options.model, texts=options.texts)
    print(tables)
    if options.write:
        page = HERE / "README.md"
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        page.write_text(f"{before}{BEGIN}\n{tables}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
