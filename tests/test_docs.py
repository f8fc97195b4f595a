"""The pages of docs/: their Python runs and prints what they say, their links lead somewhere, the map is the map."""

from __future__ import annotations

import io
import re
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

import saturation
from docs.extensions import drawing, files
from saturation.policies.policy import KINDS
from tests.conftest import ROOT
from tests.test_project import name_of, pins_of

DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent.name not in (files.FOLDER, drawing.PAGES))
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n\n)?"
    r"^```python\n(?P<code>.*?)^```\n(?:\n^```text\n(?P<prints>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
NEAR = 0.05  # how far a printed share may be from the page's: machines round differently, and one of 24 may turn


class Block(NamedTuple):
    """A block of Python in a page, and what the page says that it prints."""

    line: int
    code: str
    prints: str | None


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a page that are run."""
    for found in BLOCK.finditer(text):
        if found["reason"] is None:
            yield Block(text[: found.start("code")].count("\n"), found["code"], found["prints"])


def told_as(page: str, printed: str) -> bool:
    """Whether the words are the same, and the numbers nearly."""
    words = [NUMBER.sub("#", " ".join(text.split())).replace("[ ", "[") for text in (page, printed)]
    numbers = [[float(number) for number in NUMBER.findall(text)] for text in (page, printed)]
    return words[0] == words[1] and numbers[0] == pytest.approx(numbers[1], rel=NEAR, abs=NEAR)


def run(text: str, name: str) -> None:
    """Run the blocks of a page one after another; AssertionError names the line of one that prints something else."""
    space: dict[str, object] = {"__name__": "page"}
    for block in blocks(text):
        with redirect_stdout(io.StringIO()) as printed:
            exec(compile("\n" * block.line + block.code, name, "exec", dont_inherit=True), space)
        shown = printed.getvalue()
        if block.prints is None and shown:
            raise AssertionError(f"{name}:{block.line} prints what the page does not show:\n{shown}")
        if block.prints is not None and not told_as(block.prints, shown):
            raise AssertionError(f"{name}:{block.line} prints\n{shown}")


@pytest.fixture
def policies_as_before() -> Iterator[None]:
    """A page may define a policy; no other test shall meet it."""
    before = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(before)


@pytest.mark.parametrize(
    "page", [path for path in PAGES if "```python" in path.read_text()], ids=lambda path: path.stem
)
def test_the_python_of_a_page_runs_and_prints_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policies_as_before: None
) -> None:
    monkeypatch.chdir(tmp_path)
    run(page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix())


PAGE = "```python\nx = 0.5\nprint('half', x)\n```\n\n```text\nhalf 0.52\n```\n"


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("half 0.52", "half 0.6", "page.md:1 prints\nhalf 0.5\n"),
        ("half 0.52", "whole 0.501", "page.md:1 prints\nhalf 0.5\n"),
        ("\n```text\nhalf 0.52\n```\n", "", "page.md:1 prints what the page does not show"),
    ],
)
def test_a_page_that_says_something_else_is_found(before: str, after: str, sentence: str) -> None:
    run(PAGE, "page.md")
    with pytest.raises(AssertionError) as refusal:
        run(PAGE.replace(before, after), "page.md")
    assert str(refusal.value).startswith(sentence)


def test_a_block_is_left_out_only_for_a_written_reason() -> None:
    assert [*blocks("<!-- not run: it needs a GPU -->\n\n" + PAGE)] == []
    assert len([*blocks("<!-- not run: -->\n\n" + PAGE)]) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_links_of_a_page_lead_to_files_of_the_repository_or_of_the_site(page: Path) -> None:
    made = {DOCS / files.FOLDER / name for name in files.PAGES.values()} | {DOCS / "command.md"}
    made |= {DOCS / drawing.PAGES / f"{name}.md" for name in ("index", *saturation._ROOMS)}
    links = (link["target"].partition("#")[0] for link in files.LINK.finditer(page.read_text(encoding="utf-8")))
    places = [(page.parent / link).resolve() for link in links if link and ":" not in link]
    assert [place for place in places if place not in made and not place.exists()] == []


def test_every_room_is_in_the_picture_and_every_arc_leads_up() -> None:
    rows, pairs = drawing.rooms(), drawing.imports()
    names = [room.name for room in rows]
    assert names == list(saturation._ROOMS)
    assert all(room.says for room in rows) and len(pairs) > len(rows)
    assert all(names.index(to) < names.index(one) for one, to in pairs)
    picture = drawing.drawn(rows, pairs)
    assert all(f'href="api/{name}.html"' in picture for name in names)
    assert picture.count("<path") == len(pairs)


@pytest.mark.parametrize(
    ("link", "becomes"),
    [
        ("[text](#here)", "[text](#here)"),
        ("[paper](https://arxiv.org/abs/2404.03865)", "[paper](https://arxiv.org/abs/2404.03865)"),
        ("[types](families.md#a)", "[types](families.md#a)"),
        ("[costs](../benchmarks/RESULTS.md)", "[costs](benchmarks.md)"),
        ("![a picture](pictures/tuner.png)", "![a picture](../../data/pictures/tuner.png)"),
        ("[world/](world/)", "`data/world`"),
        ("[the code](../saturation/trace/)", "the code (`saturation/trace`)"),
    ],
)
def test_links_of_a_file_of_the_repository_lead_on_in_the_site(root: Path, link: str, becomes: str) -> None:
    assert files.moved(f"See {link}.", "data/README.md", root) == f"See {becomes}."


def test_a_link_of_such_a_file_to_nothing_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match=r"^data: expected a link to a file of the repository, got 'gone.md'; correct"):
        files.moved("[gone](gone.md)", "data/README.md", root)


@pytest.mark.parametrize("name", files.PAGES)
def test_every_such_file_can_be_made_a_page(root: Path, name: str) -> None:
    assert files.moved((root / name).read_text(encoding="utf-8"), name, root).startswith("# ")


def test_what_builds_the_site_is_pinned_and_none_of_it_is_needed_otherwise(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = pins_of((root / "docs" / "requirements.txt").read_text(encoding="utf-8").splitlines())
    asked = {name_of(one) for one in project["optional-dependencies"]["docs"]}
    assert asked == set(pins)
    assert not asked & {name_of(one) for one in project["dependencies"] + project["optional-dependencies"]["dev"]}
