"""Heatmaps of a study: what is drawn is what the table says."""

import re

import numpy as np
import pandas as pd
import pytest

from saturation import figures
from saturation.figures import amounts, overlap, sources


@pytest.fixture
def table():
    rises = {"mixture": (0.2, 0.1), "stories": (1.2, 0.05), "dots": (5.7, 4.0)}
    return pd.DataFrame(
        [
            {"source": source, "task": task, "rise": rise, "dense": dense}
            for source, own in rises.items()
            for task, rise, dense in zip(("factoid", "stories"), own, (0.01, 0.26), strict=True)
        ]
    )


def texts(ax):
    """Numbers in the cells by (row, column)."""
    return {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in ax.texts}


def test_a_cell_for_each_source_and_task(table):
    figure = sources(table)
    ax = figure.axes[0]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[-2:] == ["dots", "dense model's loss"] and [t.get_text() for t in ax.get_xticklabels()] == [
        "factoid",
        "stories",
    ]
    drawn = texts(ax)
    assert drawn[names.index("stories"), 0] == "1.20" and drawn[names.index("dots"), 1] == "4.00"
    assert (drawn[3, 0], drawn[3, 1]) == ("0.010", "0.26")
    shades = np.asarray(ax.images[0].get_array())
    assert shades[names.index("dots"), 0] == shades.max() == 5.7


def test_the_best_of_a_task_is_framed(table):
    ax = sources(table).axes[0]
    names = [label.get_text() for label in ax.get_yticklabels()]
    framed = {(names[round(patch.get_y() + 0.5)], round(patch.get_x() + 0.5)) for patch in ax.patches}
    assert framed == {("mixture", 0), ("stories", 1)}


def test_numbers_are_legible_on_their_shade(table):
    ax = sources(table).axes[0]
    colours = {text.get_text(): text.get_color() for text in ax.texts}
    assert colours["5.70"] == "white" and colours["0.050"] == "black"


def test_the_bar_beside_an_overlap_ends_where_its_shades_do():
    share = np.array([[1, 0.937, 0.831], [0.937, 1, 0.88], [0.831, 0.88, 1]])
    ax, bar = overlap(share, ["a", "b", "c"]).axes
    norm = ax.images[0].norm
    assert bar.get_ylim() == pytest.approx((norm.vmin, norm.vmax))


def test_overlap_is_lighter_where_more_is_shared():
    share = np.array([[1, 0.9, 0.6], [0.9, 1, 0.7], [0.6, 0.7, 1]])
    ax = overlap(share, ["a", "b", "c"]).axes[0]
    shades = np.asarray(ax.images[0].get_array())
    assert shades[0, 2] > shades[0, 1] and texts(ax)[0, 2] == "0.60"


def test_figures_bring_their_data(table, tmp_path):
    figures.save(sources(table), tmp_path / "sources.pdf", venue="acl", width="text")
    data = pd.read_csv(tmp_path / "sources.data.csv")
    assert data["rise"].tolist() == table["rise"].tolist() and (tmp_path / "sources.table.tex").exists()
    figures.save(overlap(np.eye(2), ["a", "b"]), tmp_path / "overlap.png")
    assert (tmp_path / "overlap.data.csv").exists()


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda table: sources(table.head(0)), "nothing to draw: the table has no rows"),
        (
            lambda table: sources(table.drop(columns="rise")),
            "expected a table of study.rises with the columns source, task and rise, found no 'rise' among source, "
            "task, dense; name the value with y=",
        ),
        (
            lambda table: sources(pd.concat([table, table])),
            "expected one row for each source and task, got several of 'mixture' on 'factoid'; select one method, "
            "sparsity, format and policy",
        ),
        (
            lambda table: overlap(np.eye(2), ["a"]),
            "expected as many names as rows and columns, at least one, got 1 names and [2, 2]; give a name for each",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(table, act, sentence):
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        act(table)


# ------------------------------------------------------------------------------------------------ amounts


@pytest.fixture
def by_amount():
    rows = [("mixture", 1024, 0.4), ("mixture", 4096, 0.3), ("stories", 1024, 1.4), ("stories", 4096, 1.2)]
    found = pd.DataFrame(rows, columns=["source", "budget", "rise"])
    return found.assign(low=found["rise"] - 0.1, high=found["rise"] + 0.2, task="factoid")


def test_amounts_are_drawn_as_lines_of_sources(by_amount):
    ax = amounts(by_amount, x="budget", xlabel="calibration tokens").axes[0]
    lines = {bars.get_label(): bars for bars in ax.containers}
    assert lines.keys() == {"mixture", "stories"}
    data, _, (bars,) = lines["stories"].lines
    assert (data.get_xdata().tolist(), data.get_ydata().tolist()) == ([1024, 4096], [1.4, 1.2])
    np.testing.assert_allclose([part[:, 1] for part in bars.get_segments()], [[1.3, 1.6], [1.1, 1.4]])
    ax.figure.canvas.draw()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1,024", "4,096"] and ax.get_xscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("calibration tokens", "rise of loss (nats per token)")


def test_shares_have_a_linear_axis_in_percent(by_amount):
    shares = by_amount.assign(sparsity=by_amount["budget"].map({1024: "0.5", 4096: "0.6"}))
    ax = amounts(shares, x="sparsity").axes[0]
    assert ax.get_xscale() == "linear" and ax.xaxis.get_major_formatter()(0.5) == "50%"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda table: table.assign(budget=["2:4", "0.5", "2:4", "0.5"]),
            "expected amounts of at least 0 in the column budget, got something else; select rows that have one",
        ),
        (
            lambda table: table.assign(budget=1024),
            "expected one row for each amount and line, got several of 'mixture' at 1024; select one task, method, "
            "format and policy",
        ),
        (
            lambda table: table.drop(columns="budget"),
            "expected a table with the columns budget, rise, low, high, source, found no 'budget' among source, rise, "
            "low, high, task; name yours with x=, y=, low=, high= and by=",
        ),
    ],
)
def test_amounts_that_cannot_be_drawn_are_refused(by_amount, change, sentence):
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        amounts(change(by_amount), x="budget")
