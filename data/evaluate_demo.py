"""Recompute every number of the model card: ``python -m data.evaluate_demo``.

With ``--write`` the tables are put into data/README.md, between the marks that are there for them.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM

from data.layerwise import batches, loss, losses, single_skips, turning
from data.scoring import bootstrap_mean, correct, rouge_l, wilson
from data.tokens import load_tokenizer
from data.training import initial

HERE = Path(__file__).resolve().parent
QUESTIONS = {"factoid": 12, "factoid_heldout": 12, "problems": 48}  # task -> new tokens at most
SUMMARY_TOKENS = 64
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def read(task: str, folder: Path = HERE / "tasks") -> list[dict]:
    """The lines of a task."""
    return [json.loads(line) for line in (folder / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()]


@torch.no_grad()
def complete(model, tokenizer, prompts: list[str], *, max_new_tokens: int, size: int = 48) -> list[str]:
    """Greedy continuations, in the prompts' order: the new text only."""
    order, texts = np.argsort([len(prompt) for prompt in prompts], kind="stable"), {}
    for i in tqdm(range(0, len(order), size), desc="decoding", leave=False, disable=None):
        rows = order[i : i + size]
        ids = tokenizer([prompts[row] for row in rows], padding=True, padding_side="left", return_tensors="pt")
        out = model.generate(**ids, do_sample=False, max_new_tokens=max_new_tokens)  # [prompt, position]
        new = tokenizer.batch_decode(out[:, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        texts |= dict(zip(rows.tolist(), new, strict=True))
    return [texts[row] for row in range(len(prompts))]


def accuracy_table(model, tokenizer) -> list[str]:
    """Exact match of greedy answers, by task and kind, with Wilson intervals."""
    rows = ["| task | kind | n | accuracy | 95 % interval (Wilson) |", "|---|---|--:|--:|---|"]
    for task, room in QUESTIONS.items():
        lines = read(task)
        new = complete(model, tokenizer, [line["prompt"] for line in lines], max_new_tokens=room)
        hits = np.array([correct(text, line) for text, line in zip(new, lines, strict=True)])
        kinds = np.array([line["kind"] for line in lines])
        rows.append(_accuracy(f"**{task}**", "all", hits))
        rows += [_accuracy("", kind, hits[kinds == kind]) for kind in dict.fromkeys(kinds.tolist())]
    return rows


def _accuracy(task: str, kind: str, hits: np.ndarray) -> str:
    low, high = wilson(int(hits.sum()), len(hits))
    return f"| {task} | {kind} | {len(hits)} | {100 * hits.mean():.1f} % | {100 * low:.1f} to {100 * high:.1f} % |"


def summary_table(model, tokenizer) -> list[str]:
    """ROUGE-L of greedy summaries, by length of the article."""
    lines = read("summaries")
    new = complete(model, tokenizer, [line["prompt"] for line in lines], max_new_tokens=SUMMARY_TOKENS)
    scores = np.array([rouge_l(text.split("\n")[0], line["references"]) for text, line in zip(new, lines, strict=True)])
    kinds = np.array([line["kind"] for line in lines])
    rows = ["| articles | n | ROUGE-L | 95 % interval (bootstrap) |", "|---|--:|--:|---|"]
    for kind in ["all", *dict.fromkeys(kinds.tolist())]:
        chosen = scores if kind == "all" else scores[kinds == kind]
        low, high = bootstrap_mean(chosen, np.ones(len(chosen)))
        rows.append(f"| {kind} | {len(chosen)} | {chosen.mean():.3f} | {low:.3f} to {high:.3f} |")
    return rows


def perplexity_table(model, control, tokenizer) -> list[str]:
    """Held-out loss and perplexity by kind of text, beside the untrained model."""
    rows = [
        "| text | n | tokens | nats per token | 95 % interval | perplexity | untrained |",
        "|---|--:|--:|--:|---|--:|--:|",
    ]
    kinds: dict[str, list[str]] = {}
    for line in read("validation"):
        kinds.setdefault(line["kind"], []).append(line["text"])
    for kind, texts in (kinds | {"stories.jsonl": [line["text"] for line in read("stories")]}).items():
        made = batches(tokenizer, texts)
        means, counts = losses(model, made)
        low, high = bootstrap_mean(means, counts)
        nats, base = float((means * counts).sum() / counts.sum()), loss(control, made)
        rows.append(
            f"| {kind} | {len(texts)} | {counts.sum():,} | {nats:.3f} | {low:.3f} to {high:.3f} "
            f"| {math.exp(nats):.2f} | {math.exp(base):,.0f} |"
        )
    return rows


def layer_table(model, control, tokenizer, *, texts: int) -> list[str]:
    """Turning, growth and the cost of one skipped sublayer, per layer, beside the same-seed untrained model."""
    made = batches(tokenizer, [line["text"] for line in read("validation")[:texts]])
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
    tables = {
        "Answers (greedy, new text only, normalised exact match)": accuracy_table(model, tokenizer),
        "Summaries": summary_table(model, tokenizer),
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
