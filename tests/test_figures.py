"""Figures, read back from their artists: the numbers drawn, the words beside them, and the files they are saved in."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import traces
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from saturation import figures
from saturation.figures import growth_panels, labels, metrics, style, violins
from saturation.trace import Trace

POINTS = 1 / 72  # inches


def refused(sentence: str, kind: type[Exception] = ValueError) -> Any:
    return pytest.raises(kind, match=f"^{re.escape(sentence)}$")


def means(trace: Trace, metric: str = "distance") -> np.ndarray:
    return np.array([np.mean([x for x in column if x == x], dtype=float) for column in getattr(trace, metric).T])


def lines(ax: Axes) -> list[Any]:
    """Lines through one point per layer."""
    return [line for line in ax.get_lines() if len(line.get_xdata()) > 2]


def tick_texts(axis: Any) -> list[str]:
    axis.figure.draw_without_rendering()
    low, high = sorted(axis.get_view_interval())
    return [
        tick.label1.get_text() or tick.label2.get_text()
        for tick in axis.get_major_ticks()
        if low <= tick.get_loc() <= high
    ]


def legend_texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.fixture(scope="module")
def trained() -> Trace:
    return traces.trace(also=("naive_cosine",))


@pytest.fixture(scope="module")
def untrained() -> Trace:
    return traces.trace(seed=7, cosines=list(np.linspace(0.92, 0.998, 16)), also=("naive_cosine",))


@pytest.fixture(scope="module")
def skipping() -> Trace:
    return traces.trace(skip=0.3, seed=3)


# ---- the axis of cosines


@pytest.mark.parametrize(
    ("distance", "text"),
    [
        (2, "−1"),
        (1, "0"),
        (0.5, "0.5"),
        (0.1, "0.9"),
        (0.05, "0.95"),
        (0.01, "0.99"),
        (0.002, "0.998"),
        (1e-5, "0.99999"),
    ],
)
def test_a_distance_is_labelled_with_its_cosine(distance: float, text: str) -> None:
    assert metrics.cosine_text(distance) == text


def test_the_axis_of_cosines_is_logarithmic_in_the_distance_and_rises(trained: Trace) -> None:
    ax = figures.layers(trained).axes[0]
    assert ax.get_yscale() == "log"
    assert ax.yaxis.get_inverted()
    texts = tick_texts(ax.yaxis)
    assert {"0.5", "0.9", "0.95", "0.99"} <= set(texts)
    assert len(texts) == len(set(texts))
    assert ax.get_ylabel() == "mean cos(h, h + FFN)"


def test_the_right_axis_gives_one_minus_cosine(trained: Trace) -> None:
    ax = figures.layers(trained).axes[0]
    (right,) = ax.child_axes
    assert right.get_ylabel() == "1 − cos"
    left = tick_texts(ax.yaxis)
    np.testing.assert_allclose(
        [1 - float(text) for text in tick_texts(right.yaxis)], [float(t) for t in left], atol=1e-9
    )


def test_drawing_twice_in_one_place_keeps_one_axis_at_the_right(trained: Trace, untrained: Trace) -> None:
    ax = Figure().subplots()
    figures.layers(trained, ax=ax)
    figures.layers(untrained, ax=ax)
    assert len(ax.child_axes) == 1
    assert ax.yaxis.get_inverted()


def test_an_axis_over_many_decades_is_labelled_at_powers_of_ten() -> None:
    distance = np.logspace(-7, 0, 16, dtype=np.float32)[None, :].repeat(4, 0)
    trace = Trace(traces.tokens(1, 4, 2), distance, distance, np.zeros(distance.shape, bool))
    texts = tick_texts(figures.layers(trace, sink=0).axes[0].yaxis)
    assert sorted(texts) == ["0", "0.9", "0.99", "0.999", "0.9999", "0.99999", "0.999999", "0.9999999"]


def test_a_block_that_turns_nothing_is_drawn_at_the_floor() -> None:
    zero = np.zeros((8, 3), np.float32)
    trace = Trace(traces.tokens(1, 8, 2), zero, zero, zero.astype(bool))
    (line,) = lines(figures.layers(trace, sink=0).axes[0])
    np.testing.assert_array_equal(line.get_ydata(), [metrics.FLOOR] * 3)
    for draw in (figures.tokens, figures.distribution, figures.growth):
        draw(trace).draw_without_rendering()


# ---- layers


def test_layers_draws_means_and_quantiles(skipping: Trace) -> None:
    """Over the blocks that ran."""
    ax = figures.layers(skipping, quantiles=(0.25, 0.75), sink=0).axes[0]
    (line,) = lines(ax)
    np.testing.assert_array_equal(line.get_xdata(), range(16))
    np.testing.assert_allclose(line.get_ydata(), means(skipping), rtol=1e-6)
    band = ax.collections[0].get_paths()[0].vertices
    ran = [column[~np.isnan(column)] for column in skipping.distance.T]
    for layer in (0, 7, 15):
        edges = {round(float(y), 6) for x, y in band if x == layer}
        assert edges == {round(float(np.quantile(ran[layer], share)), 6) for share in (0.25, 0.75)}
    assert legend_texts(ax) == ["made-up", "25–75 % of tokens"]


def test_a_distances_mean_is_that_of_the_cosine(trained: Trace) -> None:
    (line,) = lines(figures.layers(trained, quantiles=None, sink=0).axes[0])
    np.testing.assert_allclose(1 - line.get_ydata(), trained.similarity.mean(axis=0), rtol=1e-12)


def test_layers_overlays_traces_of_any_depth(trained: Trace) -> None:
    deep = traces.trace(layers=24)
    ax = figures.layers({"trained": trained, "a deeper one": deep}, sink=0).axes[0]
    one, two = lines(ax)
    np.testing.assert_allclose(one.get_ydata(), means(trained), rtol=1e-6)
    np.testing.assert_array_equal(two.get_xdata(), range(24))
    assert legend_texts(ax) == ["trained", "a deeper one", "10–90 % of tokens"]
    assert ax.get_xlim() == (-0.5, 23.5)


def test_traces_are_told_apart_without_colour() -> None:
    looks = [style.look(index) for index in range(14)]
    assert len({(look.marker, look.colour) for look in looks}) == 14
    assert len({look.marker for look in looks[:7]}) == len({str(look.line) for look in looks[:7]}) == 7


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_layers_of_one_phase(trained: Trace, phase: Any) -> None:
    (line,) = lines(figures.layers(trained, phase=phase, sink=0).axes[0])
    np.testing.assert_allclose(line.get_ydata(), means(trained.select(phase=phase)), rtol=1e-6)


def test_layers_of_another_metric(trained: Trace) -> None:
    ax = figures.layers(trained, metric="growth", sink=0).axes[0]
    np.testing.assert_allclose(lines(ax)[0].get_ydata(), means(trained, "growth"), rtol=1e-6)
    assert ax.get_ylabel() == "mean ρ = |FFN| / |h|"
    assert ax.get_yscale() == "log"
    assert not ax.yaxis.get_inverted()
    assert figures.layers(trained, metric="naive_cosine").axes[0].get_yscale() == "linear"


def test_selected_layers_keep_their_numbers(trained: Trace) -> None:
    (line,) = lines(figures.layers(trained.select(layers=[3, 4, 9]), sink=0).axes[0])
    assert line.get_xdata().tolist() == [3, 4, 9]


def test_cold_regions_are_shaded(trained: Trace) -> None:
    ax = figures.layers(trained, cold_start=3, cold_end=2).axes[0]
    assert [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in ax.patches] == [(-0.5, 2.5), (13.5, 15.5)]
    assert legend_texts(ax)[-1] == "cold layers"
    assert not figures.layers(trained).axes[0].patches


def test_layers_draws_in_given_axes_and_leaves_their_style(trained: Trace) -> None:
    figure = Figure()
    left, right = figure.subfigures(1, 2)
    ax = right.subplots()
    ax.xaxis.label.set_fontsize(16)
    assert figures.layers(trained, ax=ax) is figure
    assert not left.axes
    assert ax.get_legend().get_texts()[0].get_fontsize() == 14


def test_a_layer_that_never_ran_leaves_a_gap(trained: Trace) -> None:
    skipped = np.zeros((60, 16), bool)
    skipped[:, 5] = True
    holes = {name: np.where(skipped, np.float32(np.nan), array) for name, array in trained.groups.items()}
    trace = replace(trained, skipped=skipped, **holes)
    (line,) = lines(figures.layers(trace, sink=0).axes[0])
    assert np.isnan(line.get_ydata()).nonzero()[0].tolist() == [5]
    for draw in (figures.distribution, figures.growth, figures.tokens):
        draw(trace).draw_without_rendering()


# ---- tokens


def test_tokens_draws_one_column_for_each_token(trained: Trace) -> None:
    figure = figures.tokens(trained, sequence=1, start=2, stop=15)
    (image,) = figure.axes[0].images
    rows = (trained.tokens["sequence"] == 1).to_numpy().nonzero()[0][2:15]
    np.testing.assert_allclose(image.get_array(), trained.distance[rows].T, rtol=1e-6)
    assert image.origin == "lower"
    assert list(image.get_extent()) == [-0.5, 12.5, -0.5, 15.5]
    assert figure.axes[0].get_xlabel() == "tokens 2 to 14 of sequence 1\ndotted: end of the attention sink"
    assert [1.5, 1.5] in [line.get_xdata() for line in figure.axes[0].get_lines()]  # behind the fourth, 2 drawn
    assert figures.tokens(trained, start=4).axes[0].get_xlabel() == "tokens 4 to 19 of sequence 0"


def test_the_text_stands_along_the_axis(trained: Trace) -> None:
    ax = figures.tokens(trained).axes[0]
    assert [text.get_text() for text in ax.get_xticklabels()] == [
        labels.visible(text) for text in trained.tokens["text"][:20]
    ]
    assert not any(text.get_parse_math() for text in ax.get_xticklabels())


@pytest.mark.parametrize(
    ("text", "label"),
    [(" cat", "·cat"), ("\n", "↵"), ("\t", "⇥"), ("", "∅"), ("  ", "··"), ("a" * 20, "a" * 11 + "…"), ("\x00", "□")],
)
def test_white_space_is_made_visible(text: str, label: str) -> None:
    assert labels.visible(text) == label


def test_brighter_is_more_similar(trained: Trace) -> None:
    image = figures.tokens(trained).axes[0].images[0]
    low, high = image.norm.vmin, image.norm.vmax
    shown = trained.distance[:20]
    np.testing.assert_allclose([low, high], np.quantile(shown, [0.01, 0.99]), rtol=1e-6)
    bright, dark = (image.cmap(image.norm(value))[:3] for value in (low, high))
    assert sum(bright) > sum(dark)
    bar = figures.tokens(trained).axes[-1]
    assert bar.get_ylabel() == "cos(h, h + FFN)"
    assert bar.yaxis.get_inverted()
    assert {"0.9", "0.99"} <= set(tick_texts(bar.yaxis))


def test_figures_can_share_limits(trained: Trace) -> None:
    image = figures.tokens(trained, limits=(1e-3, 1)).axes[0].images[0]
    assert (image.norm.vmin, image.norm.vmax) == (1e-3, 1)


def test_a_line_stands_where_decoding_starts(trained: Trace) -> None:
    ax = figures.tokens(trained, start=3).axes[0]
    (boundary, _) = ax.get_lines()
    assert boundary.get_xdata() == [4.5, 4.5]  # before the ninth token, the sixth drawn
    (name,) = ax.texts
    assert (name.get_text(), name.xy) == ("↓ decoding starts", (4.5, 1)) and ax.get_legend() is None
    (name,) = figures.tokens(trained, stop=10).axes[0].texts
    assert (name.get_text(), name.get_ha()) == ("decoding starts ↓", "right")  # where there is more room
    colours = [to_hex(text.get_color()) for text in ax.get_xticklabels()]
    assert colours == ["#606060"] * 5 + ["#000000"] * 12
    assert not figures.tokens(trained, start=9).axes[0].texts


def test_skipped_blocks_are_hatched(skipping: Trace) -> None:
    ax = figures.tokens(skipping, wrap=99).axes[0]
    (cells,) = ax.collections
    centres = {tuple(path.vertices[:4].mean(axis=0).astype(int)) for path in cells.get_paths()}
    assert centres == {(token, layer) for token, layer in np.argwhere(skipping.skipped[:20]).tolist()}
    assert cells.get_hatch() is not None
    assert legend_texts(ax) == ["skipped"]


def test_a_long_text_is_broken_into_lines() -> None:
    trace = traces.trace(sequences=1, length=100, prefill=30)
    figure = figures.tokens(trace, wrap=25)
    rows = [ax for ax in figure.axes if ax.images]
    assert [ax.images[0].get_array().shape for ax in rows] == [(16, 25), (16, 25), (16, 14)]  # 64 by default
    assert {ax.get_xlim() for ax in rows} == {(-0.5, 24.5)}
    assert [len(ax.get_lines()) for ax in rows] == [1, 1, 0]  # the sink, decoding
    assert len({ax.images[0].norm for ax in rows}) == 1


def test_tokens_in_given_axes_is_one_line() -> None:
    ax = Figure().subplots()
    figures.tokens(traces.trace(length=70), ax=ax, stop=60, wrap=10)
    assert ax.images[0].get_array().shape == (16, 60)


def test_cells_are_one_image_in_a_vector_file(trained: Trace, tmp_path: Path) -> None:
    figures.save(figures.tokens(trained), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().count("<image") == 2  # the cells and the colour bar


# ---- distribution


def test_distribution_marks_each_layers_median_and_spread(skipping: Trace) -> None:
    ax = figures.distribution(skipping, sink=0).axes[0]
    dots = {
        float(line.get_xdata()[0]): float(line.get_ydata()[0]) for line in ax.get_lines() if len(line.get_xdata()) == 1
    }
    bars = [line.get_ydata() for line in ax.get_lines() if len(line.get_xdata()) == 2]
    ran = [np.log10(column[~np.isnan(column)].astype(float)) for column in skipping.distance.T]
    np.testing.assert_allclose(list(dots), range(16), atol=1e-9)
    np.testing.assert_allclose(np.log10(list(dots.values())), [np.median(column) for column in ran])
    np.testing.assert_allclose(np.log10(bars), [np.quantile(column, (0.1, 0.9)) for column in ran])


def test_a_density_has_the_right_shape() -> None:
    """Of a normal sample that of the normal; of two points, two of Silverman's Gaussians."""
    place, density = violins._density(np.random.default_rng(0).normal(-2, 0.3, 100_000))
    assert np.abs(density - np.exp(-0.5 * ((place + 2) / 0.3) ** 2)).max() < 0.04
    place, density = violins._density(np.repeat([0.0, 1.0], 50))
    width = 0.9 * min(0.5, 1 / 1.34) * 100**-0.2
    expected = np.exp(-0.5 * (place / width) ** 2) + np.exp(-0.5 * ((place - 1) / width) ** 2)
    assert np.abs(density - expected).max() < 0.05


def test_two_traces_share_a_violin_and_more_stand_beside_each_other(trained: Trace, untrained: Trace) -> None:
    def reach(figure: Figure) -> list[tuple[float, float]]:
        shapes = [shape.get_paths()[0].vertices[:, 0] for shape in figure.axes[0].collections]
        return [(round(float(x.min()), 3), round(float(x.max()), 3)) for x in shapes]

    pair = {"trained": trained.select(layers=4), "untrained": untrained.select(layers=4)}
    (left, middle), (middle_too, right) = reach(figures.distribution(pair))
    assert (left, middle, middle_too, right) == (3.54, 4.0, 4.0, 4.46)
    three = reach(figures.distribution(pair | {"again": trained.select(layers=4)}))
    assert all(one[1] <= two[0] for one, two in pairwise(three))


def test_the_legend_of_distributions_shows_their_markers(trained: Trace, untrained: Trace) -> None:
    ax = figures.distribution({"trained": trained, "untrained": untrained}, sink=0).axes[0]
    assert legend_texts(ax) == ["trained", "untrained", "median, 10–90 %"]
    assert [handle.get_marker() for handle in ax.get_legend().legend_handles][:2] == ["o", "s"]


def test_distribution_of_some_layers(trained: Trace) -> None:
    ax = figures.distribution(trained, layers=range(4, 8)).axes[0]
    assert len(ax.collections) == 4
    assert ax.get_xlim() == (3.5, 7.5)


# ---- growth


def test_growth_stands_beside_the_cosine(trained: Trace, untrained: Trace) -> None:
    figure = figures.growth({"trained": trained, "untrained": untrained}, sink=0)
    cosine, rho, both = figure.axes
    assert [ax.get_ylabel() for ax in figure.axes] == ["cos(h, h + FFN)", "ρ = |FFN| / |h|", "cosine"]
    for ax, metric in ((cosine, "distance"), (rho, "growth")):
        for line, trace in zip(lines(ax), (trained, untrained), strict=False):
            np.testing.assert_allclose(line.get_ydata(), means(trace, metric), rtol=1e-6)
    assert legend_texts(cosine) == ["trained", "untrained", "same ρ at a right angle"]
    assert legend_texts(both) == ["cos(h, h + FFN): the measure", "cos(norm h, FFN): the classic mistake"]
    right, wrong = lines(both)[:2]
    np.testing.assert_allclose(right.get_ydata(), 1 - means(trained), rtol=1e-6)
    np.testing.assert_allclose(wrong.get_ydata(), means(trained, "naive_cosine"), rtol=1e-6)
    assert (right.get_markerfacecolor(), wrong.get_markerfacecolor()) == (style.look(0).colour, "white")


def test_growth_without_the_mistake_has_two_panels() -> None:
    assert len(figures.growth(traces.trace()).axes) == 2


def test_a_right_angle_gives_what_trigonometry_says(trained: Trace) -> None:
    growth = np.array([0.0, 1e-6, 0.01, 0.5, 1.0, 30.0])
    np.testing.assert_allclose(growth_panels.right_angle(growth), 1 - np.cos(np.arctan(growth)), atol=1e-15)
    assert growth_panels.right_angle(np.array([1e-6]))[0] == pytest.approx(5e-13, rel=1e-6)
    dotted = lines(figures.growth(trained, sink=0).axes[0])[1].get_ydata()
    expected = (1 - np.cos(np.arctan(trained.growth.astype(float)))).mean(axis=0)
    np.testing.assert_allclose(dotted, expected, rtol=1e-9)


# ---- the attention sink


@pytest.fixture(scope="module")
def odd(trained: Trace) -> Trace:
    """The first position of each sequence turns the stream ten times less than all others."""
    first = trained.tokens["position"].eq(0).to_numpy()[:, None]
    return replace(trained, distance=np.where(first, trained.distance / 10, trained.distance))


@pytest.mark.parametrize("sink", [1, 4])
def test_means_per_layer_leave_the_sink_out_and_draw_it_apart(odd: Trace, sink: int) -> None:
    ax = figures.layers(odd, sink=sink).axes[0]
    mean, apart = lines(ax)
    np.testing.assert_allclose(mean.get_ydata(), means(odd.select(start=sink)), rtol=1e-6)
    np.testing.assert_allclose(apart.get_ydata(), means(odd.select(stop=sink)), rtol=1e-6)
    words = {1: "first token (attention sink)", 4: "first 4 tokens (attention sink)"}[sink]
    assert legend_texts(ax) == ["made-up", "10–90 % of tokens", words]


def test_the_sink_is_four_positions_unless_told_otherwise(odd: Trace) -> None:
    assert legend_texts(figures.layers(odd).axes[0])[-1] == "first 4 tokens (attention sink)"


def test_growth_draws_the_sink_apart_too(odd: Trace) -> None:
    cosine, rho = figures.growth(odd).axes[:2]
    for ax, metric in ((cosine, "distance"), (rho, "growth")):
        there = [line.get_ydata() for line in lines(ax)]
        for part in (odd.select(start=4), odd.select(stop=4)):
            wanted = means(part, metric)
            assert any(np.allclose(line, wanted, rtol=1e-6) for line in there)


def test_distributions_leave_the_sink_out_and_say_so(odd: Trace) -> None:
    ax = figures.distribution(odd, sink=1).axes[0]
    dots = [float(line.get_ydata()[0]) for line in ax.get_lines() if len(line.get_xdata()) == 1]
    np.testing.assert_allclose(dots, np.median(odd.select(start=1).distance, axis=0), rtol=1e-5)
    assert any("without the first token" in text for text in legend_texts(ax))


def test_tokens_marked_decode_have_no_sink_to_leave_out(trained: Trace) -> None:
    assert len(lines(figures.layers(trained, phase="decode").axes[0])) == 1  # they stand past it


@pytest.mark.parametrize("draw", [figures.layers, figures.growth, figures.distribution])
def test_texts_that_are_all_sink_are_said(draw: Callable[..., Figure]) -> None:
    with refused(
        "nothing to draw: the trace 'made-up' has no tokens past the attention sink, the first 20 positions of each "
        "sequence; record longer texts, or give sink=0"
    ):
        draw(traces.trace(), sink=20)
    with refused("expected sink to be a whole number of positions from 0, got -1; 4 is usual"):
        draw(traces.trace(), sink=-1)


# ---- what is refused


DRAW: dict[str, Callable[..., Figure]] = {
    "layers": figures.layers,
    "distribution": figures.distribution,
    "growth": figures.growth,
}


@pytest.mark.parametrize("name", DRAW)
def test_nothing_to_draw_is_said(name: str) -> None:
    with refused(
        "nothing to draw: the trace 'made-up' has no decode tokens among its 60; record with max_new_tokens or "
        "a start position for decode tokens, or draw another phase"
    ):
        DRAW[name](traces.trace(prefill=20), phase="decode")
    with refused("nothing to draw: the mapping from labels to traces is empty"):
        DRAW[name]({})
    with refused(
        "figures draw a Trace, or a mapping from a label to each Trace, but got list; write "
        "figures.layers({'trained': one, 'untrained': other})",
        TypeError,
    ):
        DRAW[name]([traces.trace()])


def test_an_empty_trace_and_one_that_never_ran() -> None:
    with refused(
        "nothing to draw: the trace 'made-up' has no tokens; record with max_new_tokens or a start position for "
        "decode tokens, or draw another phase"
    ):
        figures.tokens(traces.trace(sequences=0))
    with refused("nothing to draw: the trace 'made-up' has no distance, for every block in it was skipped"):
        figures.layers(traces.trace(skip=1.1))


def test_a_metric_that_is_not_there() -> None:
    with refused(
        "the trace 'made-up' has no naive_cosine; it has distance, growth, so record it anew with naive_cosine among "
        "`also`"
    ):
        figures.layers(traces.trace(), metric="naive_cosine")
    with refused(
        "expected a metric among distance, growth, attention_distance, attention_growth, block_distance, "
        "block_growth, naive_cosine, magnitude, median, got 'cosine'"
    ):
        figures.layers(traces.trace(), metric="cosine")
    with refused("expected up to 4 traces and a metric with a logarithmic axis, got 1 and naive_cosine"):
        figures.distribution(traces.trace(also=("naive_cosine",)), metric="naive_cosine")


def test_cold_regions_that_do_not_fit() -> None:
    with refused("cold_start and cold_end count layers at either end of 16, but they are 10 and 7"):
        figures.layers(traces.trace(), cold_start=10, cold_end=7)
    with refused(
        "cold_end counts layers from the last, but the traces have 16 and 12 layers; draw them apart, or leave "
        "cold_end out"
    ):
        figures.layers({"a": traces.trace(), "b": traces.trace(layers=12)}, cold_end=2)


def test_quantiles_tokens_and_limits_that_do_not_fit() -> None:
    with refused("expected quantiles as two rising shares such as (0.1, 0.9), or None, got (90, 10)"):
        figures.layers(traces.trace(), quantiles=(90, 10))
    with refused(
        "nothing to draw: expected tokens from start=20 to stop=None, but the sequence has the tokens 0 to 19"
    ):
        figures.tokens(traces.trace(), start=20)
    with refused("this trace has no sequence 5; it has the sequences 0, 1, 2"):
        figures.tokens(traces.trace(), sequence=5)
    with refused("expected at least 1 token in a line, got wrap=0"):
        figures.tokens(traces.trace(), wrap=0)
    with refused("expected limits as two rising values of distance, got (0.5, 0.1)"):
        figures.tokens(traces.trace(), limits=(0.5, 0.1))
