"""Generated text as HTML: escaped, each token shaded by the blocks that were skipped to write it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from .passage_diff import divergence, kept
from .states import Passage


def pane(prompt: str, passage: Passage, other: Passage | None = None, *, layers: int = 0, stale: bool = False) -> str:
    """The HTML of a prompt and of the passage after it.

    Parameters
    ----------
    prompt, passage
        Any text; it is escaped and shown literally.
    other
        The passage to compare with: tokens that it lacks are underlined, and the first difference has a bar.
    layers
        Number of layers of the model; a token is darker the more of their FFNs were skipped to write it.
    stale
        Whether the text belongs to an earlier state of the controls.
    """
    ours = kept(passage, other) if other is not None else set(range(len(passage.ids)))
    first = divergence(passage, other) if other is not None else None
    tokens = (
        _token(piece, left_out, layers, new=i not in ours, first=i == first)
        for i, (piece, left_out) in enumerate(zip(passage.pieces, passage.skipped, strict=True))
    )
    dim = " st-stale" if stale else ""
    given = f'<span class="st-given">{escape(prompt)}</span>'
    return f'<div class="st-pane{dim}" dir="auto">{given}{"".join(tokens)}</div>'


def _token(piece: str, left_out: tuple[int, ...], layers: int, *, new: bool, first: bool) -> str:
    states = (("st-new", new), ("st-first", first), ("st-skipped", bool(left_out)))
    classes = " ".join(name for name, on in states if on)
    if not classes:
        return escape(piece)
    marks = f' class="{classes}"'
    if left_out:
        title = f"written with {len(left_out)} of {layers} FFNs skipped: {ranges(left_out)}"
        marks += f' style="--share: {len(left_out) / max(layers, 1):.2f}" title="{title}"'
    return f"<span{marks}>{escape(piece)}</span>"


def ranges(layers: Iterable[int]) -> str:
    """Layer numbers in words, neighbours as a range: "layer 4", "layers 4-7, 9"."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    named = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"layer{'' if len(runs) == 1 and len(runs[0]) == 1 else 's'} {named}"
