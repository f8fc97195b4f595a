"""Legibility checks: text in a figure that is cut off, too small or overprinted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

SMALLEST = 6.0  # points
_SLACK = 1.5  # points that letters may reach over an edge, or into each other's boxes


def faults(figure: Figure) -> list[str]:
    """Lay out a figure at its present size, and list problems of its text as sentences."""
    figure.draw_without_rendering()
    texts = _shown(figure)
    return [*_small(texts), *_cut(figure, texts), *_crowded(figure)]


def tiny(figure: Figure) -> list[str]:
    """A sentence if some text of a laid-out figure is too small for print, or none."""
    return list(_small(_shown(figure)))


def _shown(figure: Figure) -> list[Text]:
    texts = [text for ax in _all_axes(figure) for text in _texts(ax)] + figure.texts
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


def _all_axes(figure: Figure) -> list[Axes]:
    return [part for ax in figure.axes for part in (ax, *ax.child_axes)]  # type: ignore[misc]


def _texts(ax: Axes) -> list[Text]:
    """Every text that belongs to axes."""
    legend = ax.get_legend()
    axes = (ax.xaxis, ax.yaxis)
    labels = [label for axis in axes for label in (axis.label, *_tick_labels(axis))]
    return [ax.title, *labels, *ax.texts, *(legend.get_texts() if legend else [])]


def _tick_labels(axis: Axis) -> list[Text]:
    """Labels of the ticks within an axis' limits, which are the ones drawn."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    labels = [label for tick in ticks for label in (tick.label1, tick.label2)]
    return [label for label in labels if label.get_visible() and label.get_text()]


def _small(texts: list[Text]) -> Iterator[str]:
    if small := [text for text in texts if float(text.get_fontsize()) < SMALLEST]:
        yield f"{len(small)} texts are under {SMALLEST:g} points, {small[0].get_text()!r} among them"


def _cut(figure: Figure, texts: list[Text]) -> Iterator[str]:
    page = figure.bbox.padded(_SLACK * figure.dpi / 72)
    boxes = [text.get_window_extent() for text in texts]
    inside = [page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1 for box in boxes]
    if cut := [text for text, whole in zip(texts, inside, strict=True) if not whole]:
        yield (
            f"{len(cut)} texts are cut off at the edge of the page, {cut[0].get_text()!r} among them; make the "
            "figure larger or the text shorter"
        )


def _crowded(figure: Figure) -> Iterator[str]:
    slack = _SLACK * figure.dpi / 72
    for ax in _all_axes(figure):
        for name, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
            boxes = [label.get_window_extent() for label in _tick_labels(axis)]
            if any(_overlap(one, other, slack) for one, other in pairwise(boxes)):
                yield (
                    f"the labels along the {name} axis run into each other; make the figure wider, or draw fewer of "
                    "them in a line (wrap= in figures.tokens)"
                )


def _overlap(one: Bbox, other: Bbox, slack: float) -> bool:
    common = Bbox.intersection(one, other)
    return common is not None and common.width > slack and common.height > slack
