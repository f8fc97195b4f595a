"""How far long work has come: a bar in a terminal and in a notebook, lines where a command's output is kept."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm.std import tqdm

EVERY = 20.0  # seconds between two lines
_SAY: ContextVar[Callable[[str], object] | None] = ContextVar("_SAY", default=None)


def bar(
    items: Iterable[Any] | None = None, *, desc: str, progress: bool = True, leave: bool = False, **options: Any
) -> Any:
    """A bar of tqdm over items, or one that `update` moves.

    In a terminal it stands on stderr. In a notebook it is a widget until it ends; then a line of text takes its place,
    so that a page without a kernel shows no bar that never moves. Elsewhere nothing is shown, unless `lines` asks.

    Parameters
    ----------
    items
        What to go through; None where `total` is given and `update` called.
    desc
        What is done: "recording".
    progress
        False shows nothing.
    leave
        Whether it stays when all is done. One that ends early stays in a notebook, and says how far it came.
    options
        As tqdm has them: total, unit, initial, smoothing.
    """
    if progress and _in_notebook():
        return _notebook_bar()(items, desc=desc, leave=leave, **options)
    if progress and sys.stderr.isatty():
        return tqdm(items, desc=desc, leave=leave, **options)
    if progress and _SAY.get() is not None:
        return _Lines(items, desc=desc, **options)
    return _Silent(items)


@contextmanager
def lines(say: Callable[[str], object]) -> Iterator[None]:
    """Where stderr is no terminal, tell of long work inside the block, a line every 20 seconds."""
    token = _SAY.set(say)
    try:
        yield
    finally:
        _SAY.reset(token)


def said(one: Any, *, ended: bool = False) -> str:
    """How far a bar is, as a line: "recording: 12 of 40, 30%, 21 s"."""
    done, total = one.n, one.total
    share = f" of {total}, {done / total:.0%}" if total else ""
    stopped = ", stopped" if ended and total and done < total else ""
    return f"{one.desc.removesuffix(': ')}: {done}{share}, {one.format_dict['elapsed']:.0f} s{stopped}"


class _Silent(AbstractContextManager["_Silent"]):
    """Shows nothing, without the lock that tqdm takes even so: an interrupt can leave that taken for all threads."""

    def __init__(self, items: Iterable[Any] | None) -> None:
        self._items = () if items is None else items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __exit__(self, *failure: object) -> None:
        self.close()

    def update(self, n: float = 1) -> None:
        """Nothing is counted."""

    def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
        """Nobody looks."""

    def close(self) -> None:
        """Nothing is open."""


class _Lines(tqdm):
    """Says a line from time to time; nothing of work that is done before the first one is due."""

    def __init__(self, items: Iterable[Any] | None, **options: Any) -> None:
        self._say, self._told = _SAY.get(), False
        super().__init__(items, gui=True, mininterval=EVERY, miniters=1, **options)  # gui: tqdm prints nothing itself

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Called when a line is due."""
        self._tell(said(self))
        return True

    def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
        """What is at work now: no reason for a line."""
        super().set_postfix_str(s, refresh=False)

    def close(self) -> None:
        """Say how it ended, if anything was said."""
        if not self.disable and self._told:
            self._tell(said(self, ended=True))
        super().close()

    def _tell(self, line: str) -> None:
        assert self._say is not None
        self._say(line)
        self._told = True


def _in_notebook() -> bool:
    """Whether this is a kernel that a notebook talks to."""
    found = sys.modules.get("IPython")
    return found is not None and hasattr(found.get_ipython(), "kernel")


def _notebook_bar() -> type:
    from IPython.display import display
    from tqdm.notebook import tqdm as widget

    class Bar(widget):
        """A widget while work goes on, text afterwards."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, display=False, **options)
            self._place = display(self.container, display_id=True)

        def close(self) -> None:
            """Let text take the widget's place; nothing where all is done and the bar shall not stay."""
            if self.disable:
                return
            whole = not self.total or self.n >= self.total
            text = "" if whole and not self.leave else said(self, ended=True)
            super().close()
            if self._place is not None:
                self._place.update({"text/plain": text}, raw=True)
            for part in (*self.container.children, self.container):
                part.close()

    return Bar
