"""Figures of tables, read back from their artists: scores, training, texts, and the fixed looks of policies."""

from __future__ import annotations

import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import traces
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from saturation import figures
from saturation.figures import labels, policy_styles, score_by_warmup, score_tables, style, text_diff, training
from saturation.figures.tradeoff import efficient
from saturation.policies import FFNSkip, RandomFFN, StaticFFN
from saturation.quality import summarising

FIT = FFNSkip(0.999, warmup=0)
DENSE_KEYS = ["dense", "dense, 95 %"]


def refused(sentence: str) -> Any:
    return pytest.raises(ValueError, match=f"^{re.escape(sentence)}$")


def legend_texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def bars(ax: Axes) -> dict[str, Any]:
    return {container.get_label(): container for container in ax.containers}


def summary(**also: Any) -> pd.DataFrame:
    """As `quality.summarise` gives it, of two tasks and two scores."""
    policies = [None, FIT, FFNSkip(0.99, warmup=0), StaticFFN((3,)), StaticFFN((3, 4)), RandomFFN(0.25)]
    rows = [
        {
            "task": task,
            "policy": "dense" if policy is None else policy.describe(),
            "score": score,
            "n": 40,
            "mean": (mean := 0.9 - 0.1 * place),
            "low": mean - 0.05,
            "high": mean + 0.02,
            "decode": 0.07 * place,
            "answer": 0.05 * place,
        }
        for task in ("facts", "sums")
        for score in ("correct", "repetition")
        for place, policy in enumerate(policies)
    ]
    return pd.DataFrame(rows).assign(**also)


# ---- policies


def test_a_setting_is_no_part_of_a_line() -> None:
    described = {
        FIT.describe(): "FFN-SkipLLM",
        FFNSkip(0.9999, warmup=25).describe(): "FFN-SkipLLM, warm-up 25",
        FFNSkip(0.998, horizon=4, warmup=0).describe(): "FFN-SkipLLM, next 4",
        FFNSkip((0.9, 0.99), warmup=0).describe(): "FFN-SkipLLM",
        FFNSkip(None).describe(): "FFN-SkipLLM, never",
        StaticFFN((3, 4, 12)).describe(): "static FFN",
        StaticFFN((3,)).describe(): "static FFN",
        RandomFFN(0.25).describe(): "random FFN",
        RandomFFN(0.25, per="run").describe(): "random FFN once",
        FFNSkip(0.99, cold_start=3, warmup=0, prefill=True).describe(): "FFN-SkipLLM, prefill too, cold 3+0",
        FFNSkip(0.99, warmup_on="position").describe(): "FFN-SkipLLM, warm-up 25, by position",
        StaticFFN((3, 4), decode_only=True).describe(): "static FFN, decode only",
        RandomFFN(1 / 8, cold_start=2, cold_end=1).describe(): "random FFN, cold 2+1",
        "FFN-SkipLLM 15%": "FFN-SkipLLM",
        "FFN-SkipLLM, causal, target 15%": "FFN-SkipLLM, causal",
        "static, target 2.5 %": "static",
        "random FFN, 5%, 3 seeds": "random FFN",
        "mine": "mine",
    }
    assert {name: policy_styles.series(name) for name in described} == described


def test_a_family_looks_the_same_whoever_stands_beside_it() -> None:
    few, many = (
        policy_styles.looks(["static FFN"]),
        policy_styles.looks(["mine", "random", "FFN-SkipLLM", "static", "dense"]),
    )
    assert few["static FFN"] == many["static"] == style.look(1)
    assert many["FFN-SkipLLM"] == style.look(0) and many["random"] == style.look(2)
    assert len({(look.colour, look.marker) for look in many.values()}) == 5
    assert policy_styles.looks(["mine"])["mine"] == many["mine"]


def test_lines_of_one_family_share_a_colour_and_are_told_apart_without_it() -> None:
    names = ["FFN-SkipLLM", *(f"FFN-SkipLLM, next {k}" for k in (1, 2, 3, 4))]
    looks = list(policy_styles.looks(names).values())
    assert len({look.colour for look in looks}) == 1
    assert len({(look.marker, look.hollow, str(look.line)) for look in looks}) == 5
    assert looks[1].line_options(1)["markerfacecolor"] == "white"


def test_all_families_differ() -> None:
    looks = policy_styles.looks([*policy_styles.FAMILIES, "mine", "yours", "dense"]).values()
    assert len({(look.colour, look.marker) for look in looks}) == len(policy_styles.FAMILIES) + 3


# ---- tradeoff


def test_tradeoff_of_a_summary_joins_settings_and_draws_the_dense_score_across() -> None:
    ax = figures.tradeoff(summary(), task="sums", score="correct").axes[0]
    drawn = bars(ax)
    assert list(drawn) == ["FFN-SkipLLM", "static FFN", "random FFN"]
    np.testing.assert_allclose(drawn["static FFN"].lines[0].get_xydata(), [(0.21, 0.6), (0.28, 0.5)])
    (dense,) = (line for line in ax.lines if line.get_label() == "dense")
    assert list(dense.get_ydata()) == [0.9, 0.9]
    assert legend_texts(ax) == ["FFN-SkipLLM", "static FFN", "random FFN", *DENSE_KEYS, "Pareto front"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("FFN blocks skipped (of all at decoded tokens)", "accuracy")


def test_tradeoff_against_the_answers_own_tokens() -> None:
    ax = figures.tradeoff(summary(), task="sums", score="correct", x="answer").axes[0]
    assert bars(ax)["random FFN"].lines[0].get_xdata() == [0.25]
    assert ax.get_xlabel() == "FFN blocks skipped (of those at the answer's tokens)"


@pytest.mark.parametrize(
    ("less", "expected"), [(False, [(0.3, 0.5), (0.2, 0.9)]), (True, [(0.3, 0.5), (0.2, 0.4), (0.0, 0.1)])]
)
def test_the_front_holds_what_no_other_beats(less: bool, expected: list) -> None:
    points = pd.DataFrame([(0.0, 0.1), (0.1, 0.8), (0.2, 0.9), (0.2, 0.4), (0.3, 0.5), (0.3, 0.5)], columns=["x", "y"])
    best = efficient(points["x"], points["y"], less_is_better=less)
    assert list(points.iloc[best].itertuples(index=False, name=None)) == expected


def test_the_front_knows_which_way_is_better() -> None:
    def front(score: str) -> list:
        ax = figures.tradeoff(summary(), task="sums", score=score).axes[0]
        (line,) = (line for line in ax.lines if line.get_label() == "Pareto front")
        assert line.get_drawstyle() == "steps-pre"  # nothing was measured between two settings
        return line.get_xdata().tolist()

    assert front("correct") == pytest.approx([0, *(0.07 * place for place in range(6))])
    assert front("repetition") == [0, 0.07 * 5]
    assert "Pareto front" not in legend_texts(
        figures.tradeoff(summary(), task="sums", score="correct", front=False).axes[0]
    )


def test_tradeoff_asks_which_score_and_task() -> None:
    with refused("expected one score to draw, got None of 'correct', 'repetition'; choose with score="):
        figures.tradeoff(summary(), task="sums")
    with refused("expected one task to draw, got 'songs' of 'facts', 'sums'; choose with task="):
        figures.tradeoff(summary(), score="correct", task="songs")


def test_small_values_are_spread_and_labelled_in_plain_numbers() -> None:
    table = pd.DataFrame({"policy": "mine", "ratio": [0.1, 0.2], "loss": [0.003, 0.08], "low": 0.002, "high": 0.09})
    ax = figures.tradeoff(table, log=True).axes[0]
    ax.figure.draw_without_rendering()
    assert ax.get_yscale() == "symlog"
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert {"0", "0.001", "0.01"} <= set(labels) and not any("$" in label for label in labels)


# ---- by category


def test_by_category_sets_policies_under_each_other() -> None:
    table = pd.concat([summary(kind="one", n=12), summary(kind="two_$x$").assign(mean=0.1)])
    figure = figures.by_category(table, task="facts", score="correct")
    ax = figure.axes[0]
    drawn = bars(ax)
    assert next(iter(drawn)) == "dense" and len(drawn) == 6
    line, _, (lengths,) = drawn["dense"].lines
    np.testing.assert_allclose(line.get_xdata().astype(float), [0.9, 0.1])
    assert list(lengths.get_segments()[0][:, 0]) == pytest.approx([0.85, 0.92])
    heights = [container.lines[0].get_ydata().astype(float) for container in drawn.values()]
    assert (np.diff(heights, axis=0) > 0).all() and np.abs(np.array(heights) - [0, 1]).max() < 0.5
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one (12)", "two_$x$ (40)"]
    assert not any(label.get_parse_math() for label in ax.get_yticklabels())
    assert ax.get_ylim() == (1.5, -0.5) and ax.get_xlabel() == "accuracy"


def test_by_category_names_what_the_table_lacks() -> None:
    with refused(
        "expected a table with the columns kind, mean, low, high, policy, found no 'kind' among task, policy, score, "
        "n, mean, low, high, decode, answer; name yours with category=, y=, low=, high= and by="
    ):
        figures.by_category(summary(), task="facts", score="correct")


def test_categories_of_few_examples_are_left_out_and_named() -> None:
    counts = {"birthday": 24, "goods": 4, "river": 1}
    kinds = pd.concat([summary(kind=kind, n=count) for kind, count in counts.items()])
    options: dict[str, Any] = {"task": "facts", "score": "correct"}
    (ax,) = figures.by_category(kinds, **options, least=5).axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["birthday (24)"]
    assert ax.get_xlabel() == "accuracy\n(under 5 examples and left out:\ngoods, river)"
    (ax,) = figures.by_category(kinds, **options).axes
    assert len(ax.get_yticklabels()) == 3 and ax.get_xlabel() == "accuracy"
    with refused("nothing to draw: none of the 3 categories has 25 examples or more; give a smaller least="):
        figures.by_category(kinds, **options, least=25)


# ---- warm-up


RULES = [FFNSkip(threshold, warmup=length) for threshold in (0.99, 0.999) for length in (10, 0, 25)]


def warmed(rules: list[FFNSkip] = RULES) -> pd.DataFrame:
    """Of two thresholds at three warm-ups, and of the dense run."""
    rows = [
        {"policy": rule.describe(), "mean": 0.5 + rule.warmup / 100, "answer": 0.3 - rule.warmup / 100}
        for rule in rules
    ]
    table = pd.DataFrame([*rows, {"policy": "dense", "mean": 0.9, "answer": 0.0}])
    return table.assign(task="facts", score="correct", low=table["mean"] - 0.1, high=table["mean"] + 0.1)


def test_warmups_are_read_from_the_policies_names() -> None:
    figure = figures.warmup(warmed())
    above, below = figure.axes
    drawn = bars(above)
    assert list(drawn) == ["FFN-SkipLLM, cosine 0.99", "FFN-SkipLLM, cosine 0.999"]
    for container, line in zip(drawn.values(), below.lines, strict=True):
        np.testing.assert_allclose(container.lines[0].get_xydata(), [(0, 0.5), (10, 0.6), (25, 0.75)])
        np.testing.assert_allclose(line.get_xydata(), [(0, 0.3), (10, 0.2), (25, 0.05)])
    assert [line.get_ydata()[0] for line in above.lines if line.get_label() == "dense"] == [0.9]
    assert below.get_xlabel() == "warm-up (generated tokens)" and below.get_ylabel() == "skipped\n(answer)"
    assert score_by_warmup.levels(warmed()["policy"]) == [0, 10, 25]


def test_warmups_by_position_are_another_line_and_said_to_be() -> None:
    rules = [FFNSkip(0.99, warmup=length, warmup_on="position") for length in (5, 25)]
    figure = figures.warmup(warmed(rules))
    assert list(bars(figure.axes[0])) == ["FFN-SkipLLM, cosine 0.99, by position"]
    assert figure.axes[1].get_xlabel() == "warm-up (positions)"
    both = figures.warmup(warmed([*rules, FFNSkip(0.99, warmup=5)]))
    assert list(bars(both.axes[0])) == ["FFN-SkipLLM, cosine 0.99, by position", "FFN-SkipLLM, cosine 0.99"]
    assert both.axes[1].get_xlabel() == "warm-up (tokens)"
    assert score_by_warmup.levels(warmed(rules)["policy"]) == [5, 25]


def test_warmups_of_ones_own_column_in_axes_of_ones_own() -> None:
    table = pd.DataFrame({"length": [0, 5], "ratio": "25 %", "loss": [0.2, 0.1], "low": 0.1, "high": 0.3})
    ax = Figure().subplots()
    figures.warmup(table, x="length", y="loss", by="ratio", ax=ax)
    assert list(bars(ax)) == ["25 %"] and ax.get_ylabel() == "rise of loss (nats per token)"
    assert len(ax.figure.axes) == 1
    with refused("nothing to draw: the table has no rows"):
        figures.warmup(table[:0], x="length", y="loss", by="ratio")


# ---- training


def checkpoints() -> pd.DataFrame:
    rows = [(tokens, layer, 0.9 + layer / 100, 0.5 / (layer + 1), tokens / 1e6 / (layer + 1))
            for tokens in (22_000_000, 0, 1_300_000) for layer in range(6)]  # fmt: skip
    return pd.DataFrame(rows, columns=["tokens", "layer", "cosine", "rho", "rise"])


def test_dynamics_draws_three_panels_and_darkens_with_training() -> None:
    figure = figures.dynamics(checkpoints(), about={"model": "made-up"})
    cosine, rho, rise = figure.axes
    lines = [line for line in cosine.lines if len(line.get_xdata()) == 6]
    assert [line.get_label() for line in lines] == ["0 tokens", "1.3 M tokens", "22 M tokens"]
    light = [np.dot(line.get_color()[:3], (0.299, 0.587, 0.114)) for line in lines]
    assert light == sorted(light, reverse=True) and light[0] - light[-1] > 0.4
    np.testing.assert_allclose(lines[0].get_ydata(), 1 - (0.9 + np.arange(6) / 100))
    np.testing.assert_allclose(rho.lines[0].get_ydata(), 0.5 / np.arange(1, 7))
    np.testing.assert_allclose(rise.lines[2].get_ydata(), 22 / np.arange(1, 7))
    assert cosine.yaxis.get_inverted() and rho.get_yscale() == "log" and rise.get_yscale() == "symlog"
    assert figure.sources[0].about == {"model": "made-up"}


def test_dynamics_of_named_runs_and_fewer_columns() -> None:
    table = checkpoints().assign(run=lambda t: np.where(t["tokens"] > 0, "trained", "untrained"))
    (ax,) = figures.dynamics(table.query("tokens != 1300000").drop(columns=["rho", "rise"]), by="run").axes
    assert legend_texts(ax) == ["trained", "untrained"]
    assert [to_hex(line.get_color()) for line in ax.lines] == [to_hex(style.look(place).colour) for place in (0, 1)]


def test_dynamics_names_what_the_table_lacks() -> None:
    with refused(
        "expected a table with the columns tokens, layer and any of cosine, rho, rise, found no 'cosine' among tokens, "
        "layer; name yours with by=, layer=, cosine=, rho= and rise="
    ):
        figures.dynamics(checkpoints()[["tokens", "layer"]])
    with refused("nothing to draw: the table has no rows"):
        figures.dynamics(checkpoints()[:0])


@pytest.mark.parametrize(("tokens", "text"), [(0, "0"), (950, "950"), (2e5, "200 k"), (1.3e6, "1.3 M"), (2e9, "2 B")])
def test_tokens_are_counted_in_few_letters(tokens: float, text: str) -> None:
    assert training._tokens_text(tokens) == text


# ---- answers

ODD = "It costs $5 and $6 <script>alert(1)</script> **bold** \\frac{a}{b} שלום 🙂 ‮evil 𓀀\nsecond line"


def texts(**policies: str) -> pd.DataFrame:
    return pd.DataFrame([{"example": "a", "policy": name, "text": text} for name, text in policies.items()])


def words(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.axes[0].texts]


def marked(figure: Figure) -> list[str]:
    """Words that stand on a mark."""
    figure.draw_without_rendering()
    (ax,) = figure.axes
    boxes = [patch.get_bbox() for patch in ax.patches if patch.get_height() > 2]
    return [text.get_text() for text in ax.texts if any(box.contains(*text.get_position()) for box in boxes)]


def test_answers_mark_the_words_that_differ() -> None:
    two = texts(sparse="the old cat sat on a mat", dense="the cat sat on the mat")
    figure = figures.answers(two)
    assert words(figure)[:2] == ["dense", "sparse"]
    assert marked(figure) == ["the", "old", "a"]
    three = pd.concat([two, texts(other="the cat sat on the mat today")])
    assert marked(figures.answers(three)) == ["old", "a", "today"]  # which of the others lacks a word cannot be told
    assert marked(figures.answers(three, policies=["dense", "other"])) == ["today"]


def test_generated_text_is_text(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figures.answers(texts(dense=ODD, sparse="plain"), prompts={"a": "What is $x$?"})
        figures.save(figure, tmp_path / "a.pdf", "acl")
    shown = words(figure)
    assert {"$5", "$6", "<script>alert(1)</script>", "**bold**", "\\frac{a}{b}", "שלום", "$x$?", "↵"} <= set(shown)
    assert "□" in shown and "□evil" in shown
    assert not any(text.get_parse_math() for text in figure.axes[0].texts)


def test_answers_are_wrapped_anew_at_every_width(tmp_path: Path) -> None:
    long = " ".join(f"word{n}" for n in range(50)) + " " + "x" * 300
    figure = figures.answers(texts(dense=long, sparse=long + " end"))
    sizes = {}
    for width in ("column", "text"):
        picture, *_ = figures.save(figure, tmp_path / f"{width}.pdf", "acl", width)  # type: ignore[arg-type]
        sizes[width] = figures.measure(picture).height
        assert figures.legibility.faults(figure) == []
    assert sizes["column"] > 1.6 * sizes["text"]
    figure.draw_without_rendering()
    edges = [placed.left + placed.width for placed in text_diff.laid(figure.get_layout_engine()._blocks, 3.0)]
    assert max(edges) <= 72 * 3.0 and "".join(words(figure)).count("x") == 600


def test_long_answers_are_cut_and_missing_ones_shown() -> None:
    rows = pd.concat([texts(dense="a b c d", sparse="a b c d"), texts(dense="").assign(example="b")])
    assert words(figures.answers(rows, words=2)) == ["dense", "sparse", "a", "b", "…", "a", "b", "…", "∅", "–"]
    assert words(figures.answers(rows, examples=["b"], policies=["dense"])) == ["dense", "∅"]


def test_answers_refuse_what_is_not_there() -> None:
    rows = texts(dense="a", sparse="b")
    with refused("expected policies among 'dense', 'sparse', got 'mine'; correct policies="):
        figures.answers(rows, policies=["mine"])
    with refused("expected examples of the table, such as 'a', got 'z'; correct examples="):
        figures.answers(rows, examples=["z"])
    with refused("expected 1 to 4 policies to set side by side, got 6; choose with policies="):
        figures.answers(texts(**dict.fromkeys("abcdef", "x")))
    with refused("nothing to draw: no examples were chosen, or the table has no rows"):
        figures.answers(rows, examples=0)
    with refused(
        "expected rows with the columns example, policy, text, found no 'text' among example, policy; name yours with "
        "example=, by= and text="
    ):
        figures.answers(rows[["example", "policy"]])


def test_letters_that_no_font_has() -> None:
    assert labels.drawable("a𓀀b\u202e") == "a□b□"


# ---- on the page


@cache
@cache
def every_figure() -> dict[str, Figure]:
    kinds = pd.concat([summary(kind=f"a kind of question, number {n}") for n in range(4)])
    return {
        "tradeoff": figures.tradeoff(summary(), task="facts", score="correct"),
        "tradeoff, log": figures.tradeoff(summary(), task="facts", score="correct", log=True),
        "by_category": figures.by_category(kinds, task="facts", score="correct"),
        "warmup": figures.warmup(warmed()),
        "dynamics": figures.dynamics(checkpoints()),
        "answers": figures.answers(texts(dense=ODD, sparse=ODD.replace("5", "7")), prompts={"a": ODD}),
        "replay": figures.replay(traces.trace(length=30), FIT),
    }


@pytest.mark.parametrize("width", ["column", "text"])
def test_everything_on_a_page_can_be_read(width: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, figure in every_figure().items():
        picture, *beside = figures.save(figure, tmp_path / f"{name}.pdf", "acl", width)
        printed = figures.measure(picture)
        assert printed.smallest is not None and printed.smallest >= 6, name
        assert {(font.kind, font.embedded) for font in printed.fonts} == {("TrueType", True)}, name
        assert beside[0].name == f"{name}.data.csv" and beside[-1].name == f"{name}.manifest.json"
    assert [record for record in caplog.records if record.name == "saturation.figures.saving"] == []


def test_a_table_for_latex_lies_beside_scores(tmp_path: Path) -> None:
    rows = summary().replace({"policy": {"dense": "50 % & more_of $it# – ρ"}})
    figures.save(figures.tradeoff(rows, task="facts", score="correct"), tmp_path / "a.pdf")
    lines = (tmp_path / "a.table.tex").read_text().splitlines()
    assert lines[:4] == [r"\begin{tabular}{llll}", r"\toprule", r"policy & skipped & accuracy & n \\", r"\midrule"]
    assert lines[4] == r"50 \% \& more\_of \$it\# -- $\rho$ & 0.0 \% & 0.900 [0.850, 0.920] & 40 \\"
    assert len(lines) == 4 + 6 + 2
    for name, figure in every_figure().items():
        figures.save(figure, tmp_path / f"{name}.svg")
    found = {path.name.partition(".")[0] for path in tmp_path.glob("*.table.tex")}
    assert found == {"a", "tradeoff", "tradeoff, log", "by_category", "warmup"}


def test_every_score_has_a_name_and_a_direction():
    """Else the front of, say, wrong answers would run through the worst settings."""
    assert set(summarising.SCORES) <= set(score_tables.SCORES)
    table = pd.DataFrame({"policy": ["static 10%", "static 20%"], "task": "t", "score": "wrong", "decode": [0.1, 0.2]})
    figure = figures.tradeoff(table.assign(mean=[0.1, 0.3], low=0.0, high=0.5))
    (front,) = (line for line in figure.axes[0].lines if line.get_label() == "Pareto front")
    assert front.get_ydata().tolist() == [0.1, 0.1, 0.3], "fewer wrong answers, or more skipped"


def test_a_table_says_no_interval_where_there_is_none():
    table = pd.DataFrame({"policy": ["a", "b"], "mean": [0.5, 0.25], "low": [0.4, np.nan], "high": [0.6, np.nan]})
    found = score_tables.printed(table, score_tables.Columns("mean", "low", "high", "policy"), "chrf", "policy")
    assert found["chrF"].tolist() == ["0.50 [0.40, 0.60]", "0.25"]


def test_a_column_has_the_decimals_of_its_narrowest_interval():
    table = pd.DataFrame({"policy": ["a", "b", "c"], "loss": [0.1577, 0.00026575, -0.0011]})
    table = table.assign(low=table["loss"] - [0.02, 0.000185, 0.002], high=table["loss"] + [0.02, 0.0002019, 0.002])
    columns = score_tables.Columns("loss", "low", "high", "policy")
    expected = ["0.15770 [0.13770, 0.17770]", "0.00027 [0.00008, 0.00047]", "−0.00110 [−0.00310, 0.00090]"]
    assert score_tables.printed(table, columns, None, "policy").iloc[:, 1].tolist() == expected
    bare = table.assign(low=np.nan, high=np.nan)
    assert score_tables.printed(bare, columns, None, "policy").iloc[:, 1].tolist() == ["0.1577", "0.0003", "−0.0011"]
    assert score_tables.printed(bare.assign(loss=0.0), columns, None, "policy").iloc[:, 1].tolist() == ["0", "0", "0"]


def rises() -> pd.DataFrame:
    """As the demo tabulates what skipping adds to the loss."""
    table = pd.DataFrame({"policy": ["static, target 5%", "static, target 10%"], "ratio": [0.0625, 0.125], "n": 8})
    return table.assign(loss=[0.01, 0.02], low=[0.005, 0.01], high=[0.015, 0.03])


def test_a_rise_is_drawn_and_printed_beside_the_dense_run(tmp_path: Path) -> None:
    figure = figures.tradeoff(rises())
    assert legend_texts(figure.axes[0]) == ["static", "dense", "Pareto front"]
    figures.save(figure, tmp_path / "a.pdf")
    lines = (tmp_path / "a.table.tex").read_text().splitlines()
    assert lines[4:7] == [
        r"dense & 0.0 \% & 0.000 &  \\",
        r"static, target 5\% & 6.2 \% & 0.010 [0.005, 0.015] & 8 \\",
        r"static, target 10\% & 12.5 \% & 0.020 [0.010, 0.030] & 8 \\",
    ]
    assert "dense" not in legend_texts(figures.tradeoff(rises(), dense=None).axes[0])


def test_a_summary_without_a_dense_run_has_no_line_for_it() -> None:
    sparse = summary().query("policy != 'dense'")
    ax = figures.tradeoff(sparse, task="facts", score="correct").axes[0]
    assert not [text for text in legend_texts(ax) if text.startswith("dense")]


@pytest.mark.parametrize("widest", [0.004, 0.02, 0.124, 0.13, 0.42, 0.97])
def test_shares_are_labelled_as_they_are(widest: float) -> None:
    """A tick of 2.5 % is not labelled 2 %, and no marker or cap is cut at either end."""
    table = rises().assign(ratio=[0.0, widest])
    ax = figures.tradeoff(table).axes[0]
    ticks, texts = ax.get_xticks(), [text.get_text() for text in ax.get_xticklabels()]
    ends = ax.get_xlim()
    shown = [(tick, text) for tick, text in zip(ticks, texts, strict=True) if ends[0] <= tick <= ends[1]]
    assert len(shown) > 3
    assert [float(text.removesuffix("%")) / 100 for _, text in shown] == pytest.approx([tick for tick, _ in shown])
    edge = ax.transData.transform([(0, 0), (widest, 0)])[:, 0] - ax.bbox.x0
    assert edge[0] > 3 and ax.bbox.width - edge[1] > 3, "points of a marker or cap"
