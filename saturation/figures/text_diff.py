"""Text comparison: texts side by side, wrapped to the figure's width, with differing words marked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cache, partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import LayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path

from . import labels, style
from .policy_styles import DENSE
from .source import Paper, Source, sourced

_MOST = 4  # texts beside each other
_LINE, _GAP, _MARGIN = 9.4, 9.0, 3.0  # points: from line to line, between columns and blocks, around the page
_MARK: dict[str, Any] = {"facecolor": "#ffd9a0", "linewidth": 0, "zorder": 1}
_GREY = "#606060"


@dataclass(frozen=True)
class Word:
    """A word of a passage, with its mark, its weight, and whether it ends its line."""

    text: str
    marked: bool = False
    bold: bool = False
    colour: str = "black"
    ends: bool = False


@dataclass(frozen=True)
class Placed:
    """A word with its position (left and baseline in points from the top left corner) and its width."""

    word: Word
    left: float
    base: float
    width: float


Block = list[list[Word]]  # columns of one height


def answers(
    rows: pd.DataFrame,
    *,
    examples: int | Sequence[str] = 3,
    policies: Sequence[str] | None = None,
    prompts: Mapping[str, str] | None = None,
    text: str = "text",
    example: str = "example",
    by: str = "policy",
    words: int = 60,
) -> Figure:
    """Draw texts of the dense and skipping runs side by side, with differing words marked.

    Marked in a skipping run's text are the words that the dense text does not have in that place, and in the dense
    text, where there is one other, those that were lost. Texts are shown as they are: markup is not interpreted,
    □ is a letter that no font of this machine has.

    Parameters
    ----------
    rows : pandas.DataFrame
        One row per text: what `quality.evaluate` or `sweep` gives of written answers.
    examples : int or sequence of str
        The first so many, or those with these names.
    policies : sequence of str, optional
        Up to 4, the one that the others are compared with first; by default all, and "dense" first.
    prompts : mapping from example to str, optional
        Written above the texts.
    text, example, by : str
        Columns: the text, the example's name, the policy's.
    words : int
        Of a text at most; the rest is "…".

    Returns
    -------
    matplotlib.figure.Figure
        Wrapped anew at every width that it is drawn at; `save` gives it the height it needs.

    Raises
    ------
    ValueError
        For a table without such columns or rows, unknown names, or more texts than fit beside each other.
    """
    if missing := [name for name in (example, by, text) if name not in rows]:
        raise ValueError(
            f"expected rows with the columns {example}, {by}, {text}, found no {missing[0]!r} among "
            f"{', '.join(map(str, rows.columns))}; name yours with example=, by= and text="
        )
    shown = _policies(rows[by], policies)
    names = _examples(rows[example], examples)
    chosen = rows[rows[by].isin(shown) & rows[example].isin(names)].drop_duplicates([example, by])
    texts = {
        (name, policy): str(written)
        for name, policy, written in zip(chosen[example], chosen[by], chosen[text], strict=True)
    }
    asked = [prompts[name] for name in names if name in prompts] if prompts else []
    labels.warn([*shown, *asked, *texts.values()])
    blocks: list[Block] = [[_words(policy, bold=True) for policy in shown]]
    for name in names:
        if prompts and name in prompts:
            blocks.append([_words(prompts[name], words, colour=_GREY)])
        blocks.append(_compared([_words(texts.get((name, policy), "–"), words) for policy in shown]))
    figure = Paper(figsize=(style.WIDTH, height(blocks, style.WIDTH)))
    figure.fit = partial(height, blocks)
    figure.add_axes((0, 0, 1, 1)).set_axis_off()
    figure.set_layout_engine(_Wrapping(blocks))
    data = chosen.assign(prompt=chosen[example].map(dict(prompts))) if prompts else chosen
    return sourced(figure, Source("answers", data, dict(rows.attrs)))


def _policies(there: Iterable[str], asked: Sequence[str] | None) -> list[str]:
    found = sorted(dict.fromkeys(there), key=lambda name: name != DENSE)
    shown = found if asked is None else list(asked)
    if unknown := [name for name in shown if name not in found]:
        raise ValueError(
            f"expected policies among {', '.join(map(repr, found))}, got {unknown[0]!r}; correct policies="
        )
    if not 1 <= len(shown) <= _MOST:
        raise ValueError(f"expected 1 to {_MOST} policies to set side by side, got {len(shown)}; choose with policies=")
    return shown


def _examples(there: Iterable[str], asked: int | Sequence[str]) -> list[str]:
    found = list(dict.fromkeys(there))
    names = found[:asked] if isinstance(asked, int) else list(asked)
    if unknown := [name for name in names if name not in found]:
        raise ValueError(f"expected examples of the table, such as {found[0]!r}, got {unknown[0]!r}; correct examples=")
    if not names:
        raise ValueError("nothing to draw: no examples were chosen, or the table has no rows")
    return names


def _words(text: str, most: int | None = None, **kind: Any) -> list[Word]:
    """The words of a text; a line break is a word of its own that ends the line."""
    found = [Word("↵", ends=True) if part == "\n" else Word(labels.drawable(part)) for part in _parts(text)]
    if most is not None and len(found) > most:
        found = [*found[:most], Word("…")]
    return [replace(word, **kind) for word in found] or [Word(labels.EMPTY, colour=_GREY)]


def _parts(text: str) -> list[str]:
    return re.findall(r"\n|[^\s]+", text.strip())


def _compared(columns: Block) -> Block:
    """The columns, with words marked that differ from the first column."""
    dense, *others = columns
    marked = [_marked(other, dense) for other in others]
    return [_marked(dense, others[0]) if len(others) == 1 else dense, *marked]


def _marked(words: list[Word], other: list[Word]) -> list[Word]:
    """Words, marked where the other text differs."""
    matcher = SequenceMatcher(None, [word.text for word in other], [word.text for word in words], autojunk=False)
    same = {place for block in matcher.get_matching_blocks() for place in range(block.b, block.b + block.size)}
    return [replace(word, marked=place not in same) for place, word in enumerate(words)]


def height(blocks: Sequence[Block], across: float) -> float:
    """Height of blocks in inches at a width in inches."""
    return max((placed.base for placed in laid(blocks, across)), default=0) / 72 + (0.4 * _LINE + _MARGIN) / 72


def laid(blocks: Sequence[Block], across: float) -> Iterator[Placed]:
    """Place every word on a page of this width in inches."""
    top = _MARGIN
    for block in blocks:
        width = (72 * across - 2 * _MARGIN - _GAP * (len(block) - 1)) / len(block)
        lines = [list(_lines(words, width)) for words in block]
        for column, wrapped in enumerate(lines):
            for row, line in enumerate(wrapped):
                yield from _set(line, _MARGIN + column * (width + _GAP), top + (row + 0.8) * _LINE)
        top += _LINE * max(map(len, lines)) + 0.5 * _GAP


def _set(line: list[Word], left: float, base: float) -> Iterator[Placed]:
    for word in line:
        width = _width(word.text, word.bold)
        yield Placed(word, left, base, width)
        left += width + _width(" ", False)


def _lines(words: list[Word], width: float) -> Iterator[list[Word]]:
    """Break words into lines; a word longer than a line is cut."""
    line: list[Word] = []
    room = width
    for word in (part for whole in words for part in _cut(whole, width)):
        needed = _width(word.text, word.bold)
        if line and (needed > room or line[-1].ends):
            yield line
            line, room = [], width
        line.append(word)
        room -= needed + _width(" ", False)
    yield line


def _cut(word: Word, width: float) -> Iterator[Word]:
    while len(word.text) > 1 and _width(word.text, word.bold) > width:
        fitting = max(1, int(len(word.text) * width / _width(word.text, word.bold)) - 1)
        yield replace(word, text=word.text[:fitting])
        word = replace(word, text=word.text[fitting:])
    yield word


@cache
def _width(text: str, bold: bool) -> float:
    """Width of a word in points."""
    return float(text_to_path.get_text_width_height_descent(text, _font(bold), ismath=False)[0])


@cache
def _font(bold: bool) -> FontProperties:
    return FontProperties(family=labels.families(), size=style.TICK, weight="bold" if bold else "normal")


class _Wrapping(LayoutEngine):
    """A layout engine that places the words before each drawing, at the figure's current width."""

    _adjust_compatible = False
    _colorbar_gridspec = False

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        self._blocks = blocks

    def set(self) -> None:
        """Do nothing: there are no options."""

    def execute(self, fig: Figure) -> None:
        """Write the words into the figure's only axes, which are measured in points from the top left corner."""
        (ax,) = fig.axes
        for old in (*ax.texts, *ax.patches):
            old.remove()
        ax.set(xlim=(0, 72 * fig.get_figwidth()), ylim=(72 * fig.get_figheight(), 0), xticks=[], yticks=[])
        for placed in laid(self._blocks, fig.get_figwidth()):
            word = placed.word
            ax.text(placed.left, placed.base, word.text, va="baseline", color=word.colour, parse_math=False,
                    fontproperties=_font(word.bold))  # fmt: skip
            if word.marked:
                ax.add_patch(Rectangle((placed.left - 0.8, placed.base - 6.6), placed.width + 1.6, 8.6, **_MARK))
                ax.add_patch(
                    Rectangle((placed.left, placed.base + 1.3), placed.width, 0.5, facecolor="black", linewidth=0)
                )
