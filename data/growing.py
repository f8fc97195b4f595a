"""When saturation appears: ``python -m data.growing data/demo-model`` tabulates what training measured.

``--write`` puts the table into data/README.md, ``--picture FILE`` draws it, as training itself does at its end.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data.loss_curve import STYLE
from data.page import put, table

CHEAP = 0.02  # nats per token: what skipping one block may cost and still be called cheap
MEASURES = {
    "cosine": "1 - mean cos(h, h + FFN)",
    "rho": "mean |FFN| / |h|",
    "rise": "loss without this FFN\nminus loss (nats per token)",
}
HEADS = ["tokens", "loss", "cosine, first layer", "middle half", "last layer", "rise, first layer", "middle half ",
         "last layer ", f"layers under {CHEAP}"]  # fmt: skip


def draw(found: pd.DataFrame, png: Path) -> Path:
    """A panel per measure, layers across, a line per point of training from pale (untrained) to dark."""
    shown = found.assign(cosine=1 - found["cosine"])  # saturation crowds at 1; its distance from there does not
    steps = sorted(found["step"].unique())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.3), layout="constrained")
        shades = matplotlib.colormaps["viridis_r"](np.linspace(0.08, 1, len(steps)))
        for ax, (measure, label) in zip(figure.subplots(1, 3), MEASURES.items(), strict=True):
            for step, shade in zip(steps, shades, strict=True):
                _line(ax, shown[shown["step"] == step], measure, shade)
            ax.set(xlabel="layer", ylabel=label)
        for ax in figure.axes[:2]:
            ax.set(yscale="log")
        figure.axes[2].set_yscale("symlog", linthresh=CHEAP)
        limit = figure.axes[2].axhline(CHEAP, color="#444444", linewidth=1, linestyle=":")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        handles, labels = [*handles, limit], [*labels, f"under {CHEAP} nats: cheap"]
        figure.legend(handles, labels, loc="outside right center", frameon=False, title="tokens seen")
        figure.savefig(png, dpi=160, metadata={"Software": None})
    return png


def _line(ax: Axes, own: pd.DataFrame, measure: str, shade: np.ndarray) -> None:
    tokens = own["tokens"].iloc[0]
    label, style = ("0 (untrained)", "--") if tokens == 0 else (f"{tokens / 1e6:.2g} M", "-")
    ax.plot(own["layer"], own[measure], style, color=shade, label=label, linewidth=1.3, marker=".", markersize=4)


def rows_of(found: pd.DataFrame) -> list[list[str]]:
    """A row per point of training: first, middle and last layers, and in how many layers skipping is cheap."""
    rows = []
    for _, own in found.groupby("step"):
        own = own.sort_values("layer")
        quarter = len(own) // 4
        middle = own.iloc[quarter : len(own) - quarter]
        cosine = [own["cosine"].iloc[0], middle["cosine"].mean(), own["cosine"].iloc[-1]]
        rise = [own["rise"].iloc[0], middle["rise"].mean(), own["rise"].iloc[-1]]
        cheap = f"{(own['rise'] < CHEAP).sum()} of {len(own)}"
        what = [f"{own['tokens'].iloc[0]:,.0f}", f"{own['loss'].iloc[0]:.3f}"]
        rows.append([*what, *(f"{value:.4f}" for value in cosine), *(f"{value:+.4f}" for value in rise), cheap])
    return rows


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.growing", description=__doc__)
    parser.add_argument("folder", type=Path, help="a trained model with its dynamics.csv")
    parser.add_argument("--write", action="store_true", help="put the table into data/README.md")
    parser.add_argument("--picture", type=Path, help="PNG file for the curves")
    options = parser.parse_args(argv)
    found = pd.read_csv(options.folder / "dynamics.csv")
    lines = "\n".join(table(dict.fromkeys(HEADS, ">"), rows_of(found)))
    print(lines)
    if options.write:
        put("dynamics", lines)
    if options.picture:
        draw(found, options.picture)


if __name__ == "__main__":
    main()
