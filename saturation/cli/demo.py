"""The main job on the bundled model, from one command: record, skip, draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from .. import figures
from ..loading import load, untrained
from ..policies import FFNSkip, Policy, RandomFFN, StaticFFN, cold_regions, replay
from ..quality import losses, mean_loss, rise, summarise
from ..recording import record
from ..sweeps import sweep
from ..tasks import bundled
from ..trace import Trace
from .app import SKIPPED_ANSWER, as_text

RATIOS = (0.05, 0.15, 0.25, 0.35)  # of all FFN blocks, as in Table 3 of the paper
SEEDS = (0, 1, 2)  # of the random baseline
TEXTS = 64  # validation texts that are scored
ASKED = {"factoid": ("correct", 100), "problems": ("correct", 48), "summaries": ("rouge_L", 30)}  # score, examples
SHARES = (0.15, 0.25)  # of all FFN blocks, where the model writes
INTERVAL = "95 % interval"


def demonstrate(out: Path, say: Callable[[str], None]) -> list[Path]:
    """Measure the bundled model and write traces, tables and figures.

    Parameters
    ----------
    out
        Folder for what is written; made if it is not there.
    say
        Called with each line that a reader should see.

    Returns
    -------
    list of Path
        The files, in the order in which they were written.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = _Files(out)
    model, tokenizer = load("demo")
    control = untrained(model)
    say("A real trained model at toy scale (data/README.md); its numbers are measured here, now.")

    say("1/5 recording: held-out texts read by the trained and the untrained model, and text the model writes")
    texts = [example.text for example in bundled("validation").head(TEXTS)]
    read = record(model, tokenizer, texts, also=("attention", "block", "naive"))
    before = record(control, tokenizer, texts, also=("naive",))
    lines = bundled("calibration")
    written = record(model, tokenizer, [example.prompt for example in lines], max_new_tokens=64)
    calibration = record(model, tokenizer, [example.text for example in lines])
    for name, trace in {"read": read, "untrained": before, "written": written}.items():
        files.trace(name, trace)

    say("2/5 leaving out one feed-forward block at a time")
    dense = losses(model, tokenizer, texts)
    layers = _one_by_one(model, control, tokenizer, texts, dense, read, before)
    files.table("layers", layers)
    say(as_text(_with_intervals(layers)))

    say(f"3/5 skipping {', '.join(f'{r:.0%}' for r in RATIOS)} of all blocks: the paper's rule, static, random")
    tradeoff = _tradeoff(model, tokenizer, texts, dense, calibration)
    files.table("tradeoff", tradeoff)
    mean, low, high = mean_loss(dense)
    say(f"loss of the dense model: {mean:.4f} nats per token [{low:.4f}, {high:.4f}]; what skipping adds to it:")
    said = _with_intervals(tradeoff).rename(columns={"ratio": "skipped", "loss": "rise of the loss"})
    say(as_text(said[["policy", "skipped", "rise of the loss", INTERVAL, "predicted", "setting"]]))
    say("target and predicted: shares of all FFN blocks on the calibration texts; skipped: on the texts scored here")

    say("4/5 asking: answers and summaries that the model writes, dense and skipping")
    start, end = cold_regions(calibration)
    rows = _rows(model, tokenizer, calibration, out / "cells", cold_start=start, cold_end=end)
    files.table("rows", rows)
    answers = _answers(rows)
    files.table("answers", answers)
    said = _with_intervals(answers)
    say(as_text(said[["task", "policy", "decode", "score", "n", "mean", INTERVAL, "nominal", "total", "answer"]]))
    say(f"target: share on the calibration texts; what an adaptive rule skips on a task is its own.\n{SKIPPED_ANSWER}")

    say("5/5 drawing, PDF and PNG at the width of an ACL column or page")
    pair = {"trained": read, "untrained": before}
    files.figure("layers", figures.layers(pair, cold_start=start, cold_end=end))
    files.figure("growth", figures.growth(pair))
    files.figure("distribution", figures.distribution(read), width="text")
    files.figure("tokens", figures.tokens(written, sequence=0, stop=44), width="text")
    files.figure("tradeoff", figures.tradeoff(tradeoff))
    for name, (score, _) in ASKED.items():
        files.figure(f"tradeoff_{name}", figures.tradeoff(answers, task=name, score=score))

    say(f"\nWritten to {out}:")
    for name, endings in files.by_name().items():
        say(f"  {name:<20} {', '.join(endings)}")
    say("\nOpen next: notebooks/01_record_saturation.ipynb (make lab), where the same is done step by step;")
    say("03_compare_policies.ipynb tests more rules against the dense model, example by example.")
    return files.written


def _one_by_one(
    model: Any, control: Any, tokenizer: Any, texts: list[str], dense: pd.DataFrame, read: Trace, before: Trace
) -> pd.DataFrame:
    """Cosine, growth and the rise of the loss without each single FFN, trained beside untrained."""
    blank = losses(control, tokenizer, texts)
    rows = []
    for layer in range(read.layers):
        policy = StaticFFN(layers=(layer,))
        mean, low, high = rise(losses(model, tokenizer, texts, policy=policy), dense)
        untrained_rise, _, _ = rise(losses(control, tokenizer, texts, policy=policy), blank)
        rows.append(
            {
                "layer": layer,
                "cosine": read.similarity[:, layer].mean(),
                "rho": read.growth[:, layer].mean(),
                "loss rise": mean,
                "low": low,
                "high": high,
                "untrained cosine": before.similarity[:, layer].mean(),
                "untrained rho": before.growth[:, layer].mean(),
                "untrained loss rise": untrained_rise,
            }
        )
    return pd.DataFrame(rows)


def _tradeoff(model: Any, tokenizer: Any, texts: list[str], dense: pd.DataFrame, calibration: Trace) -> pd.DataFrame:
    """Loss against skipped blocks: one row per policy."""
    rows = []
    for name, policies in _policies(calibration):
        tables = [losses(model, tokenizer, texts, policy=policy) for policy in policies]
        table = sum(tables[1:], start=tables[0]) / len(tables)  # the mean over seeds, text by text
        mean, low, high = rise(table, dense)
        rows.append(
            {
                "policy": name,
                "setting": policies[0].describe() + (f", {len(policies)} seeds" if len(policies) > 1 else ""),
                "predicted": replay(policies[0], calibration).ratios.decode,
                "ratio": table["skipped"].sum() / table["blocks"].sum(),
                "loss": mean,
                "low": low,
                "high": high,
            }
        )
    return pd.DataFrame(rows)


def _policies(calibration: Trace) -> Iterable[tuple[str, list[Policy]]]:
    """The paper's rule and its two FFN baselines at each ratio, fitted on the calibration trace."""
    start, end = cold_regions(calibration)
    for ratio in RATIOS:
        cold: dict[str, Any] = {"cold_start": start, "cold_end": end}
        yield _name("FFN-SkipLLM", ratio), [FFNSkip.fit(calibration, ratio=ratio, warmup=0, **cold)]
        yield _name("static", ratio), [StaticFFN.fit(calibration, ratio=ratio, **cold)]
        yield _name("random", ratio), [RandomFFN(ratio, seed=seed, **cold) for seed in SEEDS]


def _name(rule: str, target: float) -> str:
    """What a table calls a rule that was fitted to skip this share, which is not the share it then skips."""
    return f"{rule}, target {target:.0%}"


def _with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """The table for a reader: both ends of the intervals in one column."""
    ends = [f"[{low:.4f}, {high:.4f}]" for low, high in zip(table["low"], table["high"], strict=True)]
    whole = table.drop(columns="high").assign(low=ends)
    return whole.rename(columns={"low": INTERVAL})


def _rows(model: Any, tokenizer: Any, calibration: Trace, cells: Path, **cold: Any) -> pd.DataFrame:
    """Written answers and their scores, example by example."""
    rules: dict[str, Policy | None] = {"dense": None}
    for share in SHARES:
        rules[_name("FFN-SkipLLM", share)] = FFNSkip.fit(calibration, ratio=share, warmup=0, **cold)
        rules[_name("static", share)] = StaticFFN.fit(calibration, ratio=share, **cold)
        rules[_name("random", share)] = RandomFFN(share, **cold)
    tasks = [bundled(name).head(number) for name, (_, number) in ASKED.items()]
    return sweep(model, tokenizer, rules, tasks, out=cells)


def _answers(rows: pd.DataFrame) -> pd.DataFrame:
    """The score of each task beside what was skipped, over all decoded tokens and on the answers' own."""
    summary = summarise(rows)
    return summary[summary["score"] == summary["task"].map({name: score for name, (score, _) in ASKED.items()})]


class _Files:
    """Writes into one folder and remembers what."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[Path] = []

    def by_name(self) -> dict[str, list[str]]:
        """Each file's name up to the first dot, with its endings."""
        found: dict[str, list[str]] = {}
        for path in self.written:
            name, _, ending = path.name.partition(".")
            found.setdefault(name, []).append(ending)
        return found

    def trace(self, name: str, trace: Trace) -> None:
        path = self.folder / f"{name}.parquet"
        trace.save(path)
        self.written.append(path)

    def table(self, name: str, table: pd.DataFrame) -> None:
        path = self.folder / f"{name}.csv"
        table.to_csv(path, index=False)
        self.written.append(path)

    def figure(self, name: str, figure: Any, width: Any = "column") -> None:
        self.written += figures.save(figure, self.folder / name, venue="acl", width=width, formats=("pdf", "png"))
