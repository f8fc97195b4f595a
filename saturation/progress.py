"""Progress of long work: a bar in a terminal or notebook, lines of text elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm.std import tqdm

EVERY = 20.0  # seconds between lines
_SAY: ContextVar[Callable[[str], object] | None] = ContextVar("_SAY", default=None)


def bar(
    items: Iterable[Any] | None = None, *, desc: str, progress: bool = True, leave: bool = False, **options: Any
) -> Any:
    """Make a tqdm bar over items, or one that `update` moves.

    In a terminal it is on stderr. In a notebook it is a widget, which a line of text replaces at the end, so that a
    page without a kernel shows no frozen bar. Elsewhere nothing is shown, except inside `lines`.

    Parameters
    ----------
    items
        The items to iterate over; None with `total` and `update`.
    desc
        Description of the work, such as "recording".
    progress
        False shows nothing.
    leave
        Whether the bar stays at the end. A bar that ends early stays in a notebook, and shows how far it came.
    options
        Options of tqdm: total, unit, initial, smoothing.
    """
    if progress and kernel() is not None:
        return _notebook_bar()(items, desc=desc, leave=leave, **options)
    if progress and sys.stderr.isatty():
        return tqdm(items, desc=desc, leave=leave, **options)
    if progress and _SAY.get() is not None:
        return _Lines(items, desc=desc, **options)
    return _Silent(items)


@contextmanager
def lines(say: Callable[[str], object]) -> Iterator[None]:
    """Report long work inside the block by a line every 20 seconds, where stderr is no terminal."""
    token = _SAY.set(say)
    try:
        yield
    finally:
        _SAY.reset(token)


def said(one: Any, *, ended: bool = False) -> str:
    """The state of a bar as a line: "recording: 12 of 40, 30%, 21 s"."""
    done, total = one.n, one.total
    share = f" of {total}, {done / total:.0%}" if total else ""
    stopped = ", stopped" if ended and total and done < total else ""
    return f"{one.desc.removesuffix(': ')}: {done}{share}, {one.format_dict['elapsed']:.0f} s{stopped}"


class _Silent(AbstractContextManager["_Silent"]):
    """A bar that shows nothing and, unlike tqdm, takes no lock, which an interrupt could leave locked."""

    def __init__(self, items: Iterable[Any] | None) -> None:
        self._items = () if items is None else items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __exit__(self, *failure: object) -> None:
        self.close()

    def update(self, n: float = 1) -> None:
        """Do nothing."""

    def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class _Lines(tqdm):
    """A bar that reports lines at intervals; work that ends before the first line is due reports none."""

    def __init__(self, items: Iterable[Any] | None, **options: Any) -> None:
        self._say, self._told = _SAY.get(), False
        super().__init__(items, gui=True, mininterval=EVERY, miniters=1, **options)  # gui: tqdm prints nothing itself

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Report a line; tqdm calls this when one is due."""
        self._tell(said(self))
        return True

    def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
        """Set the postfix without reporting a line."""
        super().set_postfix_str(s, refresh=False)

    def close(self) -> None:
        """Report the end, if any line was reported."""
        if not self.disable and self._told:
            self._tell(said(self, ended=True))
        super().close()

    def _tell(self, line: str) -> None:
        assert self._say is not None
        self._say(line)
        self._told = True


def kernel() -> Any:
    """The kernel of the notebook that this process runs; None elsewhere."""
    found = sys.modules.get("IPython")
    return None if found is None else getattr(found.get_ipython(), "kernel", None)


def _notebook_bar() -> type:
    from IPython.display import display
    from tqdm.notebook import tqdm as widget

    class Bar(widget):
        """A bar that is a widget during the work, and text afterwards."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, display=False, **options)
            self._place = display(self.container, display_id=True)

        def close(self) -> None:
            """Replace the widget by text, or by nothing where all is done and the bar does not stay."""
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
