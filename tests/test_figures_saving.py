"""Saved figures, read back from their files: width, fonts, letters, and what is laid beside them."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import traces
from matplotlib.figure import Figure
from PIL import Image
from pypdf import PdfReader, PdfWriter
from pypdf.generic import NameObject

import saturation
from saturation import figures
from saturation.figures import legibility, style
from saturation.trace import Trace


def refused(sentence: str, kind: type[Exception] = ValueError) -> Any:
    return pytest.raises(kind, match=f"^{re.escape(sentence)}$")


@pytest.fixture(scope="module")
def trained() -> Trace:
    return traces.trace(also=("naive_cosine",), revision="abc123", provenance={"seed": 7})


VENUES = {  # inches
    ("acl", "column"): 7.7 / 2.54,
    ("acl", "text"): 16 / 2.54,
    ("neurips", "column"): 5.5,
    ("neurips", "text"): 5.5,
    ("icml", "column"): 3.25,
    ("icml", "text"): 6.75,
}


@cache
def every_figure(tokens_in_a_line: int) -> dict[str, Figure]:
    one = traces.trace(also=("naive_cosine",), sequences=2, length=60, prefill=30)
    two = traces.trace(also=("naive_cosine",), layers=32, seed=4)
    pair = {"trained on tales": one, "untrained, same seed": two}
    skipped = traces.trace(skip=0.3, sequences=1, length=60, prefill=30)
    return {
        "layers": figures.layers(one, cold_start=3, cold_end=2),
        "layers of two": figures.layers(pair, cold_start=3),
        "growth by layer": figures.layers(pair, metric="growth"),
        "tokens": figures.tokens(one, wrap=tokens_in_a_line),
        "tokens, skipping": figures.tokens(skipped, wrap=tokens_in_a_line),
        "distribution": figures.distribution(one),
        "distribution of two": figures.distribution(pair),
        "growth": figures.growth(one),
        "growth of two": figures.growth(pair),
    }


@pytest.mark.parametrize(("venue", "width"), VENUES)
def test_a_saved_picture_has_the_venues_width(venue: Any, width: Any, trained: Trace, tmp_path: Path) -> None:
    formats = ("pdf", "svg", "png") if width == "column" else ("pdf",)
    figures.save(figures.layers(trained), tmp_path / "a", venue, width, formats=formats)
    for suffix in formats:
        assert figures.measure(tmp_path / f"a.{suffix}").width == pytest.approx(VENUES[venue, width], abs=0.01)
    box = PdfReader(tmp_path / "a.pdf").pages[0].mediabox  # not by our own reader alone
    assert float(box.width) / 72 == pytest.approx(VENUES[venue, width], abs=0.01)


@pytest.mark.parametrize(("width", "line"), [("column", 20), ("text", 44)])
def test_everything_on_a_page_can_be_read(width: str, line: int) -> None:
    for name, figure in every_figure(line).items():
        usual = figure.get_figwidth()
        figure.set_figwidth(VENUES["acl", width])
        faults = legibility.faults(figure)
        figure.set_figwidth(usual)
        assert faults == [], name


@pytest.mark.parametrize(("width", "line"), [("column", 20), ("text", 44)])
def test_every_saved_figure_embeds_truetype_of_at_least_6_points(width: Any, line: int, tmp_path: Path) -> None:
    for name, figure in every_figure(line).items():
        picture, *beside = figures.save(figure, tmp_path / f"{name}.pdf", "acl", width)
        printed = figures.measure(picture)
        assert printed.fonts and {(font.kind, font.embedded) for font in printed.fonts} == {("TrueType", True)}, name
        assert printed.smallest is not None and printed.smallest >= 6, name
        assert printed.width == pytest.approx(VENUES["acl", width], abs=0.01), name
        assert b"/Type3" not in picture.read_bytes() and picture.stat().st_size < 200_000, name
        assert [path.name for path in beside] == [f"{name}.data.csv", f"{name}.manifest.json"]
        assert all(path.stat().st_size for path in beside)


def test_text_in_files_is_text(trained: Trace, tmp_path: Path) -> None:
    figures.save(figures.layers(trained), tmp_path / "a", "acl", formats=("pdf", "svg"))
    assert "mean cos(h, h + FFN)" in PdfReader(tmp_path / "a.pdf").pages[0].extract_text()
    assert ">mean cos(h, h + FFN)</text>" in (tmp_path / "a.svg").read_text()
    pdf, svg = (figures.measure(tmp_path / name) for name in ("a.pdf", "a.svg"))
    assert pdf.smallest == svg.smallest == style.TICK
    assert svg.fonts == (("DejaVu Sans", "named", False),)


def test_a_png_has_300_dots_an_inch(trained: Trace, tmp_path: Path) -> None:
    figures.save(figures.layers(trained), tmp_path / "a.png", "acl", "text", height=2)
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (round(16 / 2.54 * 300 - 0.5), 600)


def test_saving_leaves_the_figure_and_the_settings_as_they_were(trained: Trace, tmp_path: Path) -> None:
    figure, settings = figures.layers(trained), dict(matplotlib.rcParams)
    figures.save(figure, tmp_path / "a.pdf", "acl")
    assert tuple(figure.get_size_inches()) == (style.WIDTH, style.HEIGHT)
    assert dict(matplotlib.rcParams) == settings
    figures.save(figure, tmp_path / "b.pdf")
    assert figures.measure(tmp_path / "b.pdf").width == pytest.approx(style.WIDTH, abs=0.01)


def test_tight_boxes_do_not_change_the_width(trained: Trace, tmp_path: Path) -> None:
    with matplotlib.rc_context({"savefig.bbox": "tight"}):
        figures.save(figures.layers(trained), tmp_path / "a.pdf", "icml")
    assert figures.measure(tmp_path / "a.pdf").width == pytest.approx(3.25, abs=0.01)


@pytest.mark.parametrize("suffix", [".pdf", ".svg", ".png"])
def test_the_same_figure_gives_the_same_bytes(trained: Trace, tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        figures.save(figures.layers(trained), tmp_path / f"{name}{suffix}", "acl")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_what_a_reader_would_miss_is_named(trained: Trace, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    figure = figures.tokens(traces.trace(length=44), wrap=44)
    figure.set_figwidth(3)
    figure.text(0.99, 0.5, "far too long for its place", fontsize=5)
    figures.save(figure, tmp_path / "a.pdf", height=2)
    said = [record.getMessage() for record in caplog.records if record.name == "saturation.figures.saving"]
    assert said == [
        f"{tmp_path / 'a.pdf'}: 1 texts are under 6 points, 'far too long for its place' among them",
        f"{tmp_path / 'a.pdf'}: 1 texts are cut off at the edge of the page, 'far too long for its place' among them; "
        "make the figure larger or the text shorter",
        f"{tmp_path / 'a.pdf'}: the labels along the x axis run into each other; make the figure wider, or draw fewer "
        "of them in a line (wrap= in figures.tokens)",
    ]


def test_a_figure_fit_for_its_page_has_no_faults(trained: Trace) -> None:
    assert legibility.faults(figures.layers(trained)) == []


def test_paths_and_venues_that_will_not_do(trained: Trace, tmp_path: Path) -> None:
    figure = figures.layers(trained)
    with refused(f"expected a path ending in .pdf, .svg, .png, got {str(tmp_path / 'a.jpg')!r}"):
        figures.save(figure, tmp_path / "a.jpg")
    with refused("expected a venue among acl, neurips, icml and a width among column, text, got 'emnlp' and 'column'"):
        figures.save(figure, tmp_path / "a.pdf", "emnlp")
    path = tmp_path / "none" / "a.pdf"
    with refused(
        f"cannot save the figure to {path}: there is no folder {path.parent}; make it first, or name another path",
        FileNotFoundError,
    ):
        figures.save(figure, path)
    with refused(f"expected a path ending in .pdf, .svg, .png, got {str(tmp_path / 'a.eps')!r}"):
        figures.save(figure, tmp_path / "a", formats=("pdf", "eps"))
    with refused("expected a picture ending in .pdf, .svg, .png, got a.jpg; name one that save wrote"):
        figures.measure("a.jpg")
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_shows_a_figure(trained: Trace) -> None:
    assert figures.layers(trained)._repr_png_().startswith(b"\x89PNG")


def test_figures_need_neither_torch_nor_pyplot(root: Path, tmp_path: Path) -> None:
    traces.trace(also=("naive_cosine",)).save(tmp_path / "a.parquet")
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "import saturation as st\n"
        f"trace, path = st.Trace.load({str(tmp_path / 'a.parquet')!r}), {str(tmp_path / 'a.pdf')!r}\n"
        "for draw in (st.figures.layers, st.figures.tokens, st.figures.distribution, st.figures.growth):\n"
        "    st.figures.save(draw(trace), path, venue='acl')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


# ---- beside the picture


def test_its_data_and_a_manifest_lie_beside_a_picture(
    trained: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["here/draw.py", "--ratio", "a quarter"])
    written = figures.save(
        figures.layers({"tales": trained}), tmp_path / "fig2", "icml", formats=("png", "pdf"), about={"seed": 3}
    )
    assert [path.name for path in written] == ["fig2.png", "fig2.pdf", "fig2.data.csv", "fig2.manifest.json"]
    assert sorted(tmp_path.iterdir()) == sorted(written)
    data = pd.read_csv(tmp_path / "fig2.data.csv")
    assert list(data.columns) == ["trace", "metric", "layer", "blocks", "mean", "10 %", "90 %", "tokens"]
    drawn, apart = data[data["tokens"].isna()], data[data["tokens"] == "first 4 tokens (attention sink)"]
    for rows, part in ((drawn, trained.select(start=4)), (apart, trained.select(stop=4))):
        np.testing.assert_allclose(rows["mean"], part.distance.mean(axis=0, dtype=float))
    assert data["metric"].unique().tolist() == ["1 - cos(h, h + FFN)"] and data["trace"].unique().tolist() == ["tales"]
    told = json.loads((tmp_path / "fig2.manifest.json").read_text())
    assert told["figure"] == "layers" and told["files"] == [path.name for path in written]
    assert told["asked"] == {"venue": "icml", "width": "column", "inches": [3.25, style.HEIGHT]}
    assert told["read back"]["fig2.pdf"]["fonts"][0] == {"name": "DejaVuSans", "kind": "TrueType", "embedded": True}
    digest = hashlib.sha256((tmp_path / "fig2.data.csv").read_bytes()).hexdigest()
    assert told["data"] == {"rows": 32, "sha256": digest}
    assert told["about"]["seed"] == 3 and told["about"]["traces"][0] == {
        "label": "tales", "model": "made-up", "revision": "abc123", "dtype": "float32", "tokens": 48, "layers": 16,
        "provenance": {"seed": 7},
    }  # fmt: skip
    assert told["command"] == "draw.py --ratio 'a quarter'" and told["versions"]["matplotlib"] == matplotlib.__version__


def test_a_picture_says_what_it_is(trained: Trace, tmp_path: Path) -> None:
    figures.save(figures.layers(trained), tmp_path / "a", formats=("pdf", "svg", "png"))
    digest = hashlib.sha256((tmp_path / "a.data.csv").read_bytes()).hexdigest()
    subject = f"layers of made-up (abc123, float32); data sha256 {digest}"
    said = PdfReader(tmp_path / "a.pdf").metadata
    assert said.title == "saturation: layers" and said.subject == subject and said.creation_date is None
    assert f"saturation {saturation.__version__}" in said["/Keywords"]
    with Image.open(tmp_path / "a.png") as image:
        assert image.text["Description"] == subject and image.text["Keywords"] == said["/Keywords"]
    svg = (tmp_path / "a.svg").read_text()
    assert f"<dc:description>{subject}</dc:description>" in svg and "<dc:date>" not in svg


def test_the_numbers_beside_each_figure_are_those_drawn(tmp_path: Path) -> None:
    trace = traces.trace(skip=0.3, also=("naive_cosine",))
    read = {}
    for name in ("tokens", "skipped", "distribution", "growth"):
        figures.save(getattr(figures, name)(trace), tmp_path / f"{name}.svg")
        read[name] = pd.read_csv(tmp_path / f"{name}.data.csv")
    named = [f"layer {layer}" for layer in range(16)]
    np.testing.assert_allclose(read["tokens"][named], trace.distance[:20], rtol=1e-6)
    np.testing.assert_array_equal(read["skipped"][named], trace.skipped[:20])
    assert read["tokens"]["text"].fillna("").tolist() == trace.tokens["text"][:20].tolist()
    middle = [np.nanmedian(column.astype(float)) for column in trace.select(start=4).distance.T]
    np.testing.assert_allclose(read["distribution"]["50 %"], middle)
    metrics = ["1 - cos(h, h + FFN)", "ρ = |FFN| / |h|", "cos(norm h, FFN(norm h))"]
    assert read["growth"]["metric"].unique().tolist() == metrics
    np.testing.assert_allclose(
        read["growth"]["mean"][16:32], np.nanmean(trace.select(start=4).growth.astype(float), axis=0)
    )


def test_a_figure_of_ones_own_brings_its_data(tmp_path: Path) -> None:
    own = Figure()
    own.subplots().plot([1, 2], [3, 4])
    figures.save(own, tmp_path / "a.pdf")
    told = json.loads((tmp_path / "a.manifest.json").read_text())
    assert told["data"] == "none: the figure was drawn in axes of its own; hand them to save as data="
    assert not (tmp_path / "a.data.csv").exists()
    data = pd.DataFrame({"x": [1, 2], "y": [3, 4]})
    figures.save(own, tmp_path / "b.pdf", data=data, about={"model": "mine", "dtype": "bfloat16"})
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "b.data.csv"), data)
    assert PdfReader(tmp_path / "b.pdf").metadata.subject.startswith("figure of mine (no revision, bfloat16); data ")
    figures.save(own, tmp_path / "c.pdf", alone=True)
    assert len(list(tmp_path.glob("c*"))) == 1


def test_what_is_drawn_in_two_goes_claims_no_data(trained: Trace, tmp_path: Path) -> None:
    figure = figures.layers(trained)
    figures.layers(traces.trace(seed=5), ax=figure.axes[0])
    assert [path.name for path in figures.save(figure, tmp_path / "a.pdf")] == ["a.pdf", "a.manifest.json"]


# ---- misprints


def tiny(figure: Figure) -> Figure:
    figure.text(0.5, 0.5, "too small", fontsize=5)
    return figure


@pytest.mark.parametrize("suffix", ["pdf", "svg", "png"])
def test_tiny_text_is_refused_at_a_venue(trained: Trace, tmp_path: Path, suffix: str) -> None:
    with refused(
        "expected text of at least 6 points in a figure for a venue, but 1 texts are under 6 points, 'too small' among "
        "them; make it larger",
        figures.Misprint,
    ):
        figures.save(tiny(figures.layers(trained)), tmp_path / f"a.{suffix}", "acl")
    assert list(tmp_path.iterdir()) == []


def test_tiny_text_that_only_the_file_shows_is_refused(tmp_path: Path) -> None:
    own = Figure(figsize=(2, 1))
    own.subplots().table([["a", "b"]]).set_fontsize(3)
    with refused(
        "expected text of at least 6 points in a.pdf, and 4.2 in exponents, but its file says 3; make it larger",
        figures.Misprint,
    ):
        figures.save(own, tmp_path / "a.pdf", "acl")
    assert list(tmp_path.iterdir()) == []


def test_exponents_may_be_smaller_than_the_text_around_them(tmp_path: Path) -> None:
    own = Figure()
    own.subplots().set_title("$10^{-3}$", fontsize=7)
    figures.save(own, tmp_path / "a.pdf", "acl")
    assert figures.measure(tmp_path / "a.pdf").smallest == pytest.approx(4.9)


class Tight(Figure):
    """A figure that will not keep its width."""

    def savefig(self, *args: Any, **options: Any) -> None:
        super().savefig(*args, **options, bbox_inches="tight")


@pytest.mark.parametrize("suffix", ["pdf", "svg", "png"])
def test_another_width_in_the_file_is_refused(tmp_path: Path, suffix: str) -> None:
    own = Tight()
    own.add_axes((0.4, 0.4, 0.2, 0.2))
    with pytest.raises(figures.Misprint) as refusal:
        figures.save(own, tmp_path / f"a.{suffix}", "icml")
    said = re.fullmatch(
        rf"expected a\.{suffix} to be 3\.250 inches wide, but its file says (1\.\d+); leave the figure's size to save",
        str(refusal.value),
    )
    assert said and list(tmp_path.iterdir()) == []


class Unembedded(Figure):
    """A figure whose PDF names Helvetica and carries no program for it."""

    def savefig(self, path: Any, **options: Any) -> None:
        super().savefig(path, **options)
        book = PdfWriter(clone_from=path)
        for font in book.pages[0]["/Resources"]["/Font"].values():
            plain = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
            font.get_object().clear()
            font.get_object().update({NameObject(key): NameObject(value) for key, value in plain.items()})
        book.write(path)


@pytest.mark.parametrize(
    ("kind", "settings", "what"),
    [
        (Figure, {"pdf.fonttype": 3}, "DejaVuSans is Type 3"),
        (Unembedded, {}, "Helvetica is Type 1 and not embedded"),
    ],
)
def test_fonts_that_a_publisher_refuses(
    kind: type[Figure], settings: dict[str, Any], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures.saving, "_SETTINGS", figures.saving._SETTINGS | settings)
    figure = kind(figsize=(3, 2))
    figure.add_subplot().set_title("words")
    with refused(
        f"expected a.pdf to embed every font as TrueType, but {what}; set the text in a TrueType font such as DejaVu "
        "Sans",
        figures.Misprint,
    ):
        figures.save(figure, tmp_path / "a.pdf")
    assert list(tmp_path.iterdir()) == []


def test_a_set_is_written_whole_or_not_at_all(trained: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = figures.layers(trained)
    old = {path: path.read_bytes() for path in figures.save(figure, tmp_path / "a.pdf")}
    moves, replace = [], Path.replace

    def refusing(self: Path, target: Path) -> Path:
        moves.append(target)
        if Path(target).suffix == ".json" and len(moves) < 5:
            raise PermissionError(13, "Permission denied")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refusing)
    path = tmp_path / "a.svg"
    with refused(
        f"cannot save the figure to {path}: Permission denied; nothing was written there, so free the place or name "
        "another path",
        PermissionError,
    ):
        figures.save(figures.layers(traces.trace(seed=8)), path)
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == old
    assert len(moves) == 4  # the picture and its data went to their places; the data came back to its own


@pytest.mark.parametrize("taken", ["a.pdf", "a.data.csv", "a.manifest.json"])
def test_a_place_that_is_taken_leaves_nothing(trained: Trace, tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).mkdir()
    with refused(
        f"cannot save the figure to {tmp_path / taken}: that is a folder; name a file in it", IsADirectoryError
    ):
        figures.save(figures.layers(trained), tmp_path / "a.pdf")
    assert [path.name for path in tmp_path.iterdir()] == [taken]
