"""The loss curve of a training log: ``python -m data.loss_curve data/demo-model``."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {
    "entry": "#0072B2",
    "story": "#009E73",
    "problem": "#D55E00",
    "article": "#CC79A7",
    "conversation": "#E69F00",
    "entailment": "#56B4E9",
    "question": "#000000",
}  # Okabe and Ito, 2008
NAMES = {
    "entry": "entries",
    "story": "stories",
    "problem": "problems",
    "article": "articles",
    "conversation": "conversations",
    "entailment": "entailment",
    "question": "questions",
}
MARKERS = dict(zip(COLOURS, "os^DvPX", strict=True))  # so that a grey print tells the lines apart too
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
}


def draw(log: Path, png: Path) -> Path:
    """Training and validation loss against tokens seen, with the learning rate below."""
    lines = pd.read_csv(log)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        _losses(above, lines)
        _rate(below, lines)
        figure.savefig(png, dpi=160, metadata={"Software": None})
    return png


def _losses(ax: Axes, lines: pd.DataFrame) -> None:
    millions = lines["tokens"] / 1e6
    ax.plot(millions, lines["loss"], color="#555555", linewidth=1.2, label="training, all kinds")
    for kind, colour in COLOURS.items():
        seen = lines[kind].notna()
        style = {"color": colour, "marker": MARKERS[kind], "markersize": 4, "linewidth": 1.2}
        ax.plot(millions[seen], lines[kind][seen], label=f"held-out {NAMES[kind]}", **style)
    ax.set(yscale="log", ylabel="loss (nats per token)", title="The demo model learns the bundled world")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(_few)
    ax.legend(frameon=False, ncols=2)


def _few(value: float, _: object = None) -> str:
    """Label only 0.2, 0.3, 0.5, 2, 3 and 5 between the powers of ten."""
    return f"{value:g}" if f"{value:e}"[0] in "235" else ""


def _rate(ax: Axes, lines: pd.DataFrame) -> None:
    ax.fill_between(lines["tokens"] / 1e6, 1e3 * lines["learning_rate"], color="#bbbbbb", linewidth=0)
    ax.set(xlabel="tokens seen (millions)", ylabel="rate × 1000", ylim=(0, None))
    ax.margins(x=0.01)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.loss_curve", description=__doc__)
    parser.add_argument("folder", type=Path, help="a trained model with its training_log.csv")
    folder = parser.parse_args(argv).folder
    print(draw(folder / "training_log.csv", folder / "loss_curve.png"))


if __name__ == "__main__":
    main()
