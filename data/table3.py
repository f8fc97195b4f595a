"""The paper's Table 3 on the bundled world: ``python -m data.table3`` (with ``--write``, into data/README.md).

Full model, random skipping (among all layers, or among those between the cold ones), no input-adaptivity (the same
blocks for every token) and FFN-SkipLLM, each at 5, 15, 25 and 35 % of the FFN blocks of decoded tokens, no warm-up.
Thresholds and static layers are fitted to what the dense model writes, up to the stop, for the first prompts of a task;
no reference is looked at. Cells are kept in a folder: a killed run goes on.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import pandas as pd

import saturation as st
from data.dialogue import replies
from data.page import put, table
from saturation.policies import Policy, cold_regions
from saturation.quality import compare, summarise
from saturation.tasks import Task, bundled

RATIOS = (0.05, 0.15, 0.25, 0.35)  # of all FFN blocks at decoded tokens, as in the paper
FITTED_ON = 64  # prompts of a task
HEADS = {
    "policy": "<",
    "asked": ">",
    "decoded": ">",
    "on the answer": ">",
    "score": ">",
    "95 % interval": "<",
    "of dense": ">",
    "lost / won": ">",
    "p, with dense": ">",
    "p, with random": ">",
    "p, with random, warm": ">",
}


def tasks() -> dict[str, tuple[Task, str]]:
    """The tasks of the table, each with its score."""
    asked = [bundled("factoid"), bundled("factoid_heldout"), bundled("problems"), replies(1)]
    return {task.name: (task, "correct") for task in asked} | {"summaries": (bundled("summaries"), "rouge_L")}


def policies(model, tokenizer, task: Task, dense: pd.DataFrame) -> dict[str, Policy | None]:
    """By name, "dense" first. All act on decoded tokens alone, all but plain random between the same cold layers."""
    texts = zip(task.head(FITTED_ON), dense["text"], strict=False)
    read = [(example.prompt, text.split(example.stop)[0].rstrip()) for example, text in texts]
    read = [(prompt, answer) for prompt, answer in read if answer]
    trace = st.record(model, tokenizer, read, progress=False)
    start, end = cold_regions(trace)
    cold = {"cold_start": start, "cold_end": end}
    rules: dict[str, Policy | None] = {"dense": None}
    for ratio in RATIOS:
        rules[f"random {ratio:.0%}"] = st.RandomFFN(ratio, decode_only=True)
        rules[f"random, warm {ratio:.0%}"] = st.RandomFFN(ratio, decode_only=True, **cold)
        rules[f"static {ratio:.0%}"] = st.StaticFFN.fit(trace, ratio=ratio, decode_only=True, **cold)
        rules[f"FFN-SkipLLM {ratio:.0%}"] = st.FFNSkip.fit(trace, ratio=ratio, warmup=0, **cold)
    return rules


def rows_of(found: pd.DataFrame, score: str) -> list[list[str]]:
    """A row per policy: what was skipped, the score, and paired exact tests on the same examples."""
    own = {str(name): rows for name, rows in found.groupby("policy", sort=False)}
    means = summarise(found, by=("policy",)).query("score == @score").set_index("policy")
    rows = []
    for name, cells in own.items():
        kind, _, asked = name.rpartition(" ")
        row = means.loc[name]
        what = [kind or "full", asked.rstrip("%") + " %" if kind else "0", _share(row["decode"]), _share(row["answer"])]
        scored = [_score(row["mean"], score), f"{_score(row['low'], score)} to {_score(row['high'], score)}"]
        rows.append(
            [*what, *scored, f"{row['mean'] / means.loc['dense', 'mean']:.1%}", *_tests(own, name, cells, score)]
        )
    return rows


def _tests(own: dict, name: str, cells: pd.DataFrame, score: str) -> list[str]:
    """Examples lost and won against the dense model, and p of the test with it and with random at the same ratio."""
    if name == "dense":
        return [""] * 4
    with_dense = compare(cells, own["dense"], score)
    changed = f"{with_dense['lost']} / {with_dense['won']}" if "lost" in with_dense else ""
    policy, _, ratio = name.rpartition(" ")
    rivals = [f"{rival} {ratio}" for rival in ("random", "random, warm") if not policy.startswith("random")]
    with_random = [_p(compare(cells, own[rival], score)["p"]) for rival in rivals] or ["", ""]
    return [changed, _p(with_dense["p"]), *with_random]


def _p(value: float) -> str:
    return f"{value:.1e}" if value < 0.001 else f"{value:.3f}"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %" if value == value else ""


def _score(value: float, score: str) -> str:
    return f"{100 * value:.1f} %" if score == "correct" else f"{value:.3f}"


def report(name: str, *, cells: Path, only: list[str]) -> str:
    """A table per task, in Markdown."""
    model, tokenizer = st.load(name)
    parts = []
    for task, score in tasks().values():
        if only and task.name not in only:
            continue
        run = partial(st.sweep, model, tokenizer, tasks=[task], out=cells, batch_size=100, progress=False)
        rules = policies(model, tokenizer, task, run({"dense": None}))
        found = run(rules)
        title = f"#### {task.name}, {len(task)} examples ({'exact match' if score == 'correct' else 'ROUGE-L'})"
        fitted = next(rule for rule in rules.values() if isinstance(rule, st.FFNSkip))
        cold = f"Cold layers: the first {fitted.cold_start} and the last {fitted.cold_end}."
        parts += [title, "\n".join(table(HEADS, rows_of(found, score))), cold]
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.table3", description=__doc__)
    parser.add_argument("--model", default="demo", help="'demo' or a folder")
    parser.add_argument("--cells", type=Path, default=Path("runs/table3"), help="folder for the cells of the sweep")
    parser.add_argument("--task", action="append", default=[], help="only this task; may be given again")
    parser.add_argument("--write", action="store_true", help="put the tables into data/README.md")
    options = parser.parse_args(argv)
    tables = report(options.model, cells=options.cells, only=options.task)
    print(tables)
    if options.write:
        put("table 3", tables)


if __name__ == "__main__":
    main()
