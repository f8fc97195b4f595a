"""Tables and pictures of `make demo` runs: ``python -m data.demo_results runs/demo runs/demo_smollm2 --write``.

Reads what the demo kept in its folders and writes nothing of its own making: tables go between the marks of
data/README.md and README.md, pictures into data/pictures, those of a model that is not the bundled one under its name.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data.page import PAGE, put, table

FRONT = PAGE.parents[1] / "README.md"
PICTURES = PAGE.parent / "pictures"
SHOWN = ("tradeoff", "layers", "tokens")
SCORES = {"correct": "right", "rouge_L": "ROUGE-L", "agreement": "as the dense run"}


@dataclass(frozen=True)
class Run:
    """What one demo kept."""

    folder: Path
    about: dict
    layers: pd.DataFrame
    tradeoff: pd.DataFrame
    answers: pd.DataFrame

    @classmethod
    def of(cls, folder: Path) -> Run:
        """Read a folder; OSError where a demo has not ended in it."""
        read = {name: pd.read_csv(folder / f"{name}.csv") for name in ("layers", "tradeoff", "answers")}
        return cls(folder, json.loads((folder / "about.json").read_text(encoding="utf-8")), **read)

    @property
    def name(self) -> str:
        return "bundled model" if self.about["model"] == "demo" else Path(self.about["model"]).name


def read_table(runs: list[Run]) -> list[str]:
    """What each model read, its loss, and how long the demo took."""
    rows = []
    for run in runs:
        about, times = run.about, run.about["seconds"]
        took = ", ".join(f"{step} {seconds:.0f}" for step, seconds in times.items())
        rows.append(
            [
                run.name,
                f"{about['parameters'] / 1e6:,.1f} M",
                about["texts"],
                f"{about['scored']} ({about['tokens']:,} tokens predicted)",
                f"{about['fitted']}",
                f"{about['alone']}; {about['control']}",
                f"{about['loss']:.3f} [{about['low']:.3f}, {about['high']:.3f}]",
                f"{sum(times.values()):.0f} ({took}; {about['threads']} threads)",
            ]
        )
    heads = dict.fromkeys(("model", "parameters", "texts", "scored", "fitted to"), "<")
    heads |= {"one block left out, untrained": "<", "dense loss, nats": "<", "seconds": "<"}
    return table(heads, rows)


def skipping_table(runs: list[Run]) -> list[str]:
    """Share really skipped and rise of the loss, policy by policy, the models side by side."""
    policies = list(dict.fromkeys(name for run in runs for name in run.tradeoff["policy"]))
    heads = {"policy": "<", "target": ">"}
    for run in runs:
        heads |= {f"{run.name}: skipped": ">", f"{run.name}: rise of the loss, 95 %": "<"}
    rows = []
    for policy in sorted(policies, key=lambda name: (float(_target(name)[:-1]), policies.index(name))):
        row = [policy.rpartition(", target ")[0], _target(policy).replace("%", " %")]
        for run in runs:
            for one in run.tradeoff[run.tradeoff["policy"] == policy].itertuples():
                row += [f"{100 * one.ratio:.1f} %", _interval(one.loss, one.low, one.high, sign="+")]
        rows.append(row)
    return table(heads, rows)


def _target(policy: str) -> str:
    return policy.rpartition("target ")[2]


def layer_table(run: Run) -> list[str]:
    """Cosine, growth and price of each layer, with the attention sink and without, beside the untrained model."""
    heads = [
        "layer",
        "cosine",
        "ρ",
        "rise of the loss, 95 %",
        "the sink's tokens too",
        "untrained: cosine",
        "ρ ",
        "rise",
    ]
    rows = [
        [
            f"{row['layer']:.0f}",
            f"{row['cosine']:.4f}",
            f"{row['rho']:.3f}",
            _interval(row["loss rise"], row["low"], row["high"], sign="+"),
            f"{row['loss rise, sink too']:+.3f}",
            f"{row['untrained cosine']:.4f}",
            f"{row['untrained rho']:.3f}",
            f"{row['untrained loss rise']:+.3f}",
        ]
        for row in run.layers.to_dict("records")
    ]
    return table(dict.fromkeys(heads, ">"), rows)


def answer_table(run: Run) -> list[str]:
    """Scores of each task, a row per policy."""
    scores = [score for score in SCORES if score in set(run.answers["score"])]
    rows = []
    for (task, policy), own in run.answers.groupby(["task", "policy"], sort=False):
        found = {one.score: _interval(one.mean, one.low, one.high) for one in own.itertuples()}
        decoded, answer = (f"{100 * own[name].iloc[0]:.1f} %" for name in ("decode", "answer"))
        rows.append([task, f"{own['n'].iloc[0]}", policy, decoded, answer, *(found.get(score, "") for score in scores)])
    heads = {"task": "<", "n": ">", "policy": "<", "skipped, decoded": ">", "on the answer": ">"}
    return table(heads | {f"{SCORES[score]}, 95 %": "<" for score in scores}, rows)


def _interval(mean: float, low: float, high: float, sign: str = "") -> str:
    return f"{mean:{sign}.3f} [{low:.3f}, {high:.3f}]"


def report(runs: list[Run]) -> str:
    """All tables, for data/README.md."""
    others = [run for run in runs if run.about["model"] != "demo"]
    parts = {"What was read": read_table(runs), "What skipping costs": skipping_table(runs)}
    parts |= {f"One block left out at a time: {run.name}": layer_table(run) for run in others}
    parts |= {f"Asked: {run.name}": answer_table(run) for run in runs}
    return "\n\n".join(f"#### {title}\n\n" + "\n".join(lines) for title, lines in parts.items())


def front(runs: list[Run]) -> str:
    """Pictures, and what skipping costs in a few rows, for README.md."""
    shown = {run.name: _picture(run, "tradeoff").relative_to(FRONT.parent).as_posix() for run in runs}
    cells = [f"![{name}: rise of the loss against FFN blocks skipped]({path})" for name, path in shown.items()]
    heads = {f"{run.name}, {run.about['parameters'] / 1e6:,.1f} million parameters": "<" for run in runs}
    return "\n".join([*table(heads, [cells]), "", *_short_table(runs)])


def _short_table(runs: list[Run]) -> list[str]:
    """Rise of the loss and the share really skipped, a row per model and rule, a column per target."""
    rows = []
    for run in runs:
        rules = run.tradeoff["policy"].str.rpartition(", target ")[0]
        for rule, own in run.tradeoff.groupby(rules, sort=False):
            rows.append([run.name, rule, *(f"{one.loss:+.3f} ({100 * one.ratio:.0f} %)" for one in own.itertuples())])
    targets = list(dict.fromkeys(_target(policy) for policy in runs[0].tradeoff["policy"]))
    return table({"model": "<", "rule": "<"} | {f"asked {each.replace('%', ' %')}": ">" for each in targets}, rows)


def _picture(run: Run, name: str) -> Path:
    own = "" if run.about["model"] == "demo" else f"{run.name}_"
    return PICTURES / f"{own}{name}.png"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.demo_results", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders that `saturation demo` wrote")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md and data/README.md")
    options = parser.parse_args(argv)
    runs = [Run.of(folder) for folder in options.runs]
    print(report(runs))
    if options.write:
        put("demo", report(runs))
        put("demo", front(runs), page=FRONT)
        for run in runs:
            for name in SHOWN:
                shutil.copyfile(run.folder / f"{name}.png", _picture(run, name))


if __name__ == "__main__":
    main()
