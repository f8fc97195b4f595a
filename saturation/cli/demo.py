"""The demo run: records, skips and draws, on the bundled model or another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
from torch import get_num_threads

from .. import figures
from ..atomic import writing
from ..loading import MODELS, fetch, load, untrained
from ..policies import SINK, FFNSkip, Policy, RandomFFN, StaticFFN, cold_regions, replay
from ..quality import losses, mean_loss, rise, summarise
from ..recording import Text, record
from ..sweeps import sweep
from ..trace import Trace
from .app import SKIPPED_ANSWER, as_text
from .demo_inputs import Material, material

RATIOS = (0.05, 0.15, 0.25, 0.35)  # shares of all FFN blocks, as in Table 3 of the paper
STEPS = ("recording", "one block", "skipping", "asking", "drawing")
INTERVAL = "95 % interval"
LINE = 44  # tokens in a line of the figure of tokens


def demonstrate(
    out: Path,
    say: Callable[[str], None],
    *,
    name: str = "demo",
    texts: Sequence[str] | None = None,
    source: str | None = None,
) -> list[Path]:
    """Measure a model and write traces, tables and figures.

    Parameters
    ----------
    out
        Output folder; made if missing.
    say
        Called with each line to print.
    name
        The model, as for `load`; a named model is fetched if needed.
    texts, source
        Texts to measure on, and their name for the reader. None: the bundled world for the bundled model; for another
        model the real tasks in the folder `SATURATION_REAL_DATA`, or bundled texts without it.

    Returns
    -------
    list of Path
        The files, in the order in which they were written.

    Raises
    ------
    LoadingError
        As for `load`.
    ValueError
        For too few or too short texts.
    """
    begun = perf_counter()
    if name in MODELS:
        fetch(name, say=say)
    model, tokenizer = load(name)
    given = material(name, tokenizer, texts, source)
    out.mkdir(parents=True, exist_ok=True)
    files = _Files(out)
    parameters, toy = model.num_parameters(), "; a real trained model at toy scale (data/README.md)" * (name == "demo")
    say(f"{name}, {parameters / 1e6:,.1f} million parameters{toy}. Its numbers are measured here, now.")
    control = untrained(model)

    say(f"1/5 recording: the trained and the untrained model read {given.words}, and the model writes")
    traces = _record(model, control, tokenizer, given)
    for called in ("read", "untrained", "written"):
        files.trace(called, traces[called])
    say(_sinks(traces["read"]))
    times = [perf_counter()]

    say("2/5 leaving out one feed-forward block at a time")
    layers = _one_by_one(model, control, tokenizer, given, traces)
    files.table("layers", layers)
    say(as_text(_with_intervals(layers)))
    times.append(perf_counter())

    say(f"3/5 skipping {', '.join(f'{r:.0%}' for r in RATIOS)} of all blocks: the paper's rule, static, random")
    dense = losses(model, tokenizer, given.scored)
    tradeoff = _tradeoff(model, tokenizer, given, traces["calibration"], dense)
    files.table("tradeoff", tradeoff)
    say(_told(tradeoff, dense))
    times.append(perf_counter())

    say("4/5 asking: what the model answers and writes, dense and skipping")
    rows = _rows(model, tokenizer, given, traces["calibration"], out / "cells")
    files.table("rows", rows)
    answers = _answers(rows, given)
    files.table("answers", answers)
    said = _with_intervals(answers)
    say(as_text(said[["task", "policy", "decode", "score", "n", "mean", INTERVAL, "nominal", "total", "answer"]]))
    say(f"target: share on the calibration texts; what an adaptive rule skips on a task is its own.\n{SKIPPED_ANSWER}")
    times.append(perf_counter())

    say("5/5 drawing, PDF and PNG at the width of an ACL column or page")
    _draw(files, traces, tradeoff, answers, given)
    seconds = [round(end - start, 1) for start, end in pairwise([begun, *times, perf_counter()])]
    about = {
        "model": name,
        "parameters": parameters,
        "texts": given.words,
        "seconds": dict(zip(STEPS, seconds, strict=True)),
    }
    files.about(about | _measured(given, dense) | {"sink": SINK, "threads": get_num_threads()})
    say(f"\nWritten to {out}, in {sum(seconds):.0f} s:")
    for called, endings in files.by_name().items():
        say(f"  {called:<32} {', '.join(endings)}")
    say("\nOpen next: notebooks/01_record_saturation.ipynb (make lab), where the same is done step by step;")
    say("03_compare_policies.ipynb tests more rules against the dense model, example by example.")
    return files.written


def _measured(given: Material, dense: pd.DataFrame) -> dict[str, Any]:
    """Numbers of texts by use, and the dense model's loss."""
    loss, low, high = mean_loss(dense)
    alone, control = (len(given.scored[:count]) for count in (given.alone, given.control))
    counts = {"scored": len(dense), "tokens": int(dense["tokens"].sum()), "fitted": len(given.calibration)}
    return counts | {"alone": alone, "control": control, "loss": loss, "low": low, "high": high}


def _record(model: Any, control: Any, tokenizer: Any, given: Material) -> dict[str, Trace]:
    """Record the scored texts with both models, the calibration texts, and generated text."""
    read = partial(record, model, tokenizer)
    return {
        "read": read(given.scored, also=("attention", "block", "naive", "magnitude")),
        "untrained": record(control, tokenizer, given.scored, also=("naive",)),
        "written": read(given.prompts, max_new_tokens=given.new_tokens, chat=given.chat),
        "calibration": read(given.calibration),
    }


def _sinks(read: Trace) -> str:
    """A sentence on the places of attention sinks."""
    found = read.massive()
    first, others = int((found["position"] == 0).sum()), int((found["position"] > 0).sum())
    texts, tokens = read.tokens["sequence"].nunique(), int((read.tokens["position"] > 0).sum())
    said = f"attention sinks (massive activations): the first token in {first} of {texts} texts, and {others} of the "
    return f"{said}{tokens:,} other tokens; policies leave the first {SINK} positions of each text alone"


def _one_by_one(model: Any, control: Any, tokenizer: Any, given: Material, traces: dict[str, Trace]) -> pd.DataFrame:
    """Cosine, growth and the rise of the loss without each single FFN, for the trained and the untrained model."""
    rise_of = _rises(model, tokenizer, given.scored[: given.alone])
    untrained_rise_of = _rises(control, tokenizer, given.scored[: given.control])
    read, before = traces["read"], traces["untrained"]
    rows = []
    for layer in range(read.layers):
        mean, low, high = rise_of(layer)
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
                "untrained loss rise": untrained_rise_of(layer)[0],
                "loss rise, sink too": rise_of(layer, sink=0)[0],
            }
        )
    return pd.DataFrame(rows)


def _rises(model: Any, tokenizer: Any, texts: Sequence[Text]) -> Callable[..., tuple[float, float, float]]:
    """A function from layer and sink to the rise of these texts' loss without the FFN of that layer."""
    dense = losses(model, tokenizer, texts)

    def rise_of(layer: int, sink: int = SINK) -> tuple[float, float, float]:
        return rise(losses(model, tokenizer, texts, policy=StaticFFN((layer,), sink=sink)), dense)

    return rise_of


def _tradeoff(model: Any, tokenizer: Any, given: Material, calibration: Trace, dense: pd.DataFrame) -> pd.DataFrame:
    """Loss and skipped blocks, one row per policy."""
    rows = []
    for name, policies in _policies(calibration, given.seeds):
        tables = [losses(model, tokenizer, given.scored, policy=policy) for policy in policies]
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


def _told(tradeoff: pd.DataFrame, dense: pd.DataFrame) -> str:
    """The rise of the loss by skipping, as text for the terminal."""
    mean, low, high = mean_loss(dense)
    said = _with_intervals(tradeoff).rename(columns={"ratio": "skipped", "loss": "rise of the loss"})
    return (
        f"loss of the dense model: {mean:.4f} nats per token [{low:.4f}, {high:.4f}]; what skipping adds to it:\n"
        f"{as_text(said[['policy', 'skipped', 'rise of the loss', INTERVAL, 'predicted', 'setting']])}\n"
        "target and predicted: shares of all FFN blocks on the calibration texts; skipped: on the texts scored here"
    )


def _policies(calibration: Trace, seeds: Sequence[int]) -> Iterable[tuple[str, list[Policy]]]:
    """The paper's rule and its two FFN baselines at each ratio, fitted on the calibration trace.

    The paper's rule appears twice: with and without protection of the sink.
    """
    start, end = cold_regions(calibration)
    cold: dict[str, Any] = {"cold_start": start, "cold_end": end}
    for ratio in RATIOS:
        yield _name("FFN-SkipLLM", ratio), [FFNSkip.fit(calibration, ratio=ratio, warmup=0, **cold)]
        bare = FFNSkip.fit(calibration, ratio=ratio, warmup=0, sink=0, **cold)
        yield _name("FFN-SkipLLM, sink 0", ratio), [bare]
        yield _name("static", ratio), [StaticFFN.fit(calibration, ratio=ratio, **cold)]
        yield _name("random", ratio), [RandomFFN(ratio, seed=seed, **cold) for seed in seeds]


def _name(rule: str, target: float) -> str:
    """Name of a rule in tables, with its target share, which may differ from the share that it skips."""
    return f"{rule}, target {target:.0%}"


def _with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """The table with both ends of the intervals in one column."""
    ends = [f"[{low:.4f}, {high:.4f}]" for low, high in zip(table["low"], table["high"], strict=True)]
    whole = table.drop(columns="high").assign(low=ends)
    return whole.rename(columns={"low": INTERVAL})


def _rows(model: Any, tokenizer: Any, given: Material, calibration: Trace, cells: Path) -> pd.DataFrame:
    """Generated answers and their scores, example by example."""
    start, end = cold_regions(calibration)
    cold: dict[str, Any] = {"cold_start": start, "cold_end": end}
    rules: dict[str, Policy | None] = {"dense": None}
    for share in given.shares:
        rules[_name("FFN-SkipLLM", share)] = FFNSkip.fit(calibration, ratio=share, warmup=0, **cold)
        rules[_name("static", share)] = StaticFFN.fit(calibration, ratio=share, **cold)
        rules[_name("random", share)] = RandomFFN(share, **cold)
    return sweep(model, tokenizer, rules, [task for task, _ in given.tasks.values()], out=cells)


def _answers(rows: pd.DataFrame, given: Material) -> pd.DataFrame:
    """The scores of each task with the skip ratios over all decoded tokens and over the answers' tokens."""
    summary = summarise(rows)
    drawn = {(task.name, score) for task, scores in given.tasks.values() for score in scores}
    return summary[[pair in drawn for pair in zip(summary["task"], summary["score"], strict=True)]]


def _draw(
    files: _Files, traces: dict[str, Trace], tradeoff: pd.DataFrame, answers: pd.DataFrame, given: Material
) -> None:
    """Draw the figures of a run."""
    start, end = cold_regions(traces["calibration"])
    pair = {"trained": traces["read"], "untrained": traces["untrained"]}
    files.figure("layers", figures.layers(pair, cold_start=start, cold_end=end))
    files.figure("growth", figures.growth(pair))
    files.figure("distribution", figures.distribution(traces["read"]), width="text")
    written = traces["written"].select(sequence=0)
    files.figure("tokens", figures.tokens(written, stop=_lines(written) * LINE), width="text")
    files.figure("tradeoff", figures.tradeoff(tradeoff))
    for task, scores in given.tasks.values():
        for place, score in enumerate(scores):
            name = f"tradeoff_{task.name}" + f"_{score}" * (place > 0)
            label = given.labels.get(task.name) if score == "agreement" else None
            files.figure(name, figures.tradeoff(answers, task=task.name, score=score, ylabel=label))


def _lines(written: Trace) -> int:
    """Number of lines of tokens that show the start of decoding and half a line after it."""
    return -(-(int(written.decoding.argmax()) + LINE // 2) // LINE)


class _Files:
    """Writes files into one folder and remembers them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[Path] = []

    def by_name(self) -> dict[str, list[str]]:
        """File names up to the first dot, each with its endings."""
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

    def about(self, facts: dict[str, Any]) -> None:
        path = self.folder / "about.json"
        with writing(path, "what was measured") as part:
            part.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        self.written.append(path)

    def figure(self, name: str, figure: Any, width: Any = "column") -> None:
        self.written += figures.save(figure, self.folder / name, venue="acl", width=width, formats=("pdf", "png"))
