"""Figures of skipping: the artists hold the numbers that they were given."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import traces

from saturation import figures
from saturation.policies import FFNSkip, replay


def sentence(text: str) -> str:
    return "^" + re.escape(text) + "$"


# --- skipped ------------------------------------------------------------------------------------------------------


def test_skipped_draws_the_mask_and_counts_it() -> None:
    trace = traces.trace(skip=0.3, length=20, prefill=8)
    figure = figures.skipped(trace, sequence=1, wrap=20)
    (ax,) = figure.axes
    mask = trace.select(sequence=1).skipped  # [token, layer]
    drawn = ax.collections[0].get_array().reshape(trace.layers, 20)
    assert np.array_equal(drawn.astype(bool), mask.T)
    boundary, *numbers = ax.texts
    counted = {round(text.get_position()[0]): int(text.get_text()) for text in numbers}
    assert counted == {i: n for i, n in enumerate(mask.sum(axis=1).tolist()) if n}
    assert (boundary.get_text(), boundary.xy) == ("↓ decoding starts", (7.5, 1))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["FFN ran", "FFN skipped"]


def test_skipped_breaks_lines_and_takes_a_stretch() -> None:
    trace = traces.trace(skip=0.3, length=20, prefill=8)
    figure = figures.skipped(trace, start=3, stop=17, wrap=10)
    assert [len(ax.get_xticks()) for ax in figure.axes] == [10, 4]
    assert figure.axes[-1].get_xlabel() == "tokens 3 to 16 of sequence 0"


def test_skipped_refuses_an_empty_line() -> None:
    with pytest.raises(ValueError, match=sentence("expected at least 1 token in a line, got wrap=0")):
        figures.skipped(traces.trace(), wrap=0)


# --- replay -------------------------------------------------------------------------------------------------------


def test_replay_draws_what_replay_predicts_and_live_runs_beside_it() -> None:
    trace = traces.trace(length=30)
    rule = FFNSkip(None, cold_start=2, cold_end=1, warmup=1)
    thresholds = [0.9, 0.99, 0.995]
    live = [(0.99, 0.4), (0.995, 0.2)]
    figure = figures.replay(trace, rule, thresholds=thresholds, actual=live)
    curve, points = figure.axes[0].lines
    expected = [replay(FFNSkip(t, cold_start=2, cold_end=1, warmup=1), trace).ratios.decode for t in thresholds]
    np.testing.assert_allclose(curve.get_xdata(), 1 - np.array(thresholds))
    np.testing.assert_allclose(curve.get_ydata(), expected)
    np.testing.assert_allclose(points.get_xydata(), [(1 - t, rate) for t, rate in live])
    assert figure.axes[0].get_xscale() == "log" and figure.axes[0].xaxis.get_inverted()


def test_replay_of_several_rules_over_the_recorded_range() -> None:
    trace = traces.trace(length=30)
    rules = {"all": FFNSkip(None, warmup=0), "next": FFNSkip(None, warmup=0, horizon=1)}
    ax = figures.replay(trace, rules, ratio="total").axes[0]
    everything, following = (line.get_ydata() for line in ax.lines)
    assert len(everything) == 200 and (everything >= following).all() and everything.max() > following.max() > 0
    assert (np.diff(everything) >= 0).all()  # along growing distance
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["all, predicted", "next, predicted"]


def test_replay_refuses_live_runs_of_nobody() -> None:
    expected = "expected live runs of 'mine', got some of 'yours'; rename them"
    with pytest.raises(ValueError, match=sentence(expected)):
        figures.replay(traces.trace(), {"mine": FFNSkip(None)}, actual={"yours": [(0.9, 0.1)]})


def test_replay_refuses_a_trace_without_distances() -> None:
    trace = traces.trace(skip=1.1)
    expected = "nothing to draw: the trace has no distance above 0; record some tokens of a dense run"
    with pytest.raises(ValueError, match=sentence(expected)):
        figures.replay(trace, FFNSkip(None))


# --- tradeoff -----------------------------------------------------------------------------------------------------


def table() -> pd.DataFrame:
    rows = [
        (name, ratio, slope * ratio**2, slope * ratio**2 * 0.8, slope * ratio**2 * 1.3)
        for name, slope in {"random": 2.0, "mine": 0.5, "FFN-SkipLLM": 1.0}.items()
        for ratio in (0.35, 0.05, 0.15)
    ]
    return pd.DataFrame(rows, columns=["policy", "ratio", "loss", "low", "high"])


def test_tradeoff_draws_points_in_order_with_their_intervals() -> None:
    ax = figures.tradeoff(table()).axes[0]
    drawn = {container.get_label(): container for container in ax.containers}
    assert list(drawn) == ["random", "mine", "FFN-SkipLLM"]
    line, _, (bars,) = drawn["mine"].lines
    np.testing.assert_allclose(line.get_xydata(), [(r, 0.5 * r**2) for r in (0.05, 0.15, 0.35)])
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [(0.4 * r**2, 0.65 * r**2) for r in (0.05, 0.15, 0.35)])


def test_tradeoff_gives_each_policy_one_look_in_every_figure() -> None:
    def looks(given: pd.DataFrame) -> dict[str, tuple]:
        containers = figures.tradeoff(given).axes[0].containers
        return {c.get_label(): (c.lines[0].get_color(), c.lines[0].get_marker()) for c in containers}

    whole, part = looks(table()), looks(table().query("policy != 'random'"))
    assert len(set(whole.values())) == 3
    assert part == {name: whole[name] for name in ("mine", "FFN-SkipLLM")}


def test_tradeoff_can_spread_small_values() -> None:
    assert figures.tradeoff(table(), log=True).axes[0].get_yscale() == "symlog"


def test_tradeoff_names_what_the_table_lacks() -> None:
    expected = (
        "expected a table with the columns ratio, loss, low, high, policy, found no 'low' among policy, ratio, loss, "
        "high; name yours with x=, y=, low=, high= and by="
    )
    with pytest.raises(ValueError, match=sentence(expected)):
        figures.tradeoff(table().drop(columns="low"))
    with pytest.raises(ValueError, match=sentence("nothing to draw: the table has no rows")):
        figures.tradeoff(table()[:0])
