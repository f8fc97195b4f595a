"""The figure of a choice, read back from its artists."""

from __future__ import annotations

import numpy as np
import pandas as pd

from saturation import figures
from tests.test_figures_tables import bars, legend_texts, refused

NAMES = ["static FFNs, layers 3", "static FFNs, layers 3, 4", "random FFNs, 25 %"]


def evidence(names=NAMES):
    unread = np.linspace(0.1, 0.4, len(names))
    loss = unread**2
    return pd.DataFrame(
        {"policy": names, "skipped": unread, "unread": unread, "loss": loss, "low": loss - 0.01, "high": loss + 0.02}
    ).assign(n=50)


def test_the_chosen_setting_is_circled_and_the_budget_drawn():
    ax = figures.tuned(evidence(), setting=NAMES[1], budget=0.1).axes[0]
    lines = {line.get_label(): line for line in ax.lines}
    row = evidence().iloc[1]
    assert (*lines["chosen"].get_xdata(), *lines["chosen"].get_ydata()) == (row["unread"], row["loss"])
    assert set(lines["budget"].get_ydata()) == {0.1}
    front = np.column_stack([lines["Pareto front"].get_xdata(), lines["Pareto front"].get_ydata()])
    corners = [(0.0, 0.0), (0.0, 0.0), *evidence()[["unread", "loss"]].itertuples(index=False, name=None)]
    np.testing.assert_allclose(front, corners)
    assert len(bars(ax)) == 2 and legend_texts(ax)[-3:] == ["Pareto front", "budget", "chosen"]
    for container in bars(ax).values():
        assert len(container.lines[2]) == 1, "each with its interval"


def test_where_none_was_chosen_the_dense_model_is_marked():
    ax = figures.tuned(evidence(), budget=0.001).axes[0]
    (mark,) = (line for line in ax.lines if line.get_label() == "chosen: dense")
    assert (*mark.get_xdata(), *mark.get_ydata()) == (0.0, 0.0)


def test_many_kinds_of_settings_are_one_line():
    names = [f"kind {letter}" for letter in "abcdefghij"]
    ax = figures.tuned(evidence(names), setting="kind b").axes[0]
    assert list(bars(ax)) == ["settings"] and "budget" not in legend_texts(ax)


def test_it_is_saved_with_its_table(tmp_path):
    figures.save(figures.tuned(evidence(), setting=NAMES[0], budget=0.1), tmp_path / "a.pdf", venue="acl")
    table = (tmp_path / "a.table.tex").read_text(encoding="utf-8")
    assert "loss per example" in table and "10.0" in table and (tmp_path / "a.data.csv").is_file()


def test_what_cannot_be_drawn_is_refused():
    with refused("nothing to draw: the table has no rows"):
        figures.tuned(evidence()[:0])
    names = ", ".join(map(repr, NAMES))
    with refused(f"expected the chosen setting among {names}, got 'other'; give what was tuned on this table"):
        figures.tuned(evidence(), setting="other")
