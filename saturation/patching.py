"""Change a model's forwards or hook its modules for a while, and put back exactly what stood there.

Restoring survives an interrupt that arrives in its midst, and a change acts only for the context (thread or task)
that made it: everybody else who calls the same model meanwhile gets the model as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from torch import nn

_MISSING = object()


@contextmanager
def patched(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Replace the forward of modules; instance attributes (accelerate keeps its hook there) come back as they were.

    Parameters
    ----------
    forwards
        For each module the callable that stands in for its forward.
    """
    before = {module: vars(module).get("forward", _MISSING) for module in forwards}
    try:
        for module, forward in forwards.items():
            module.forward = forward
        yield
    finally:
        undo([partial(_put_back, module, forward) for module, forward in before.items()])


def _put_back(module: nn.Module, forward: Any) -> None:
    if forward is _MISSING:
        vars(module).pop("forward", None)
    else:
        module.forward = forward


@contextmanager
def hooked(register: Callable[[list[Any]], None]) -> Iterator[None]:
    """Hooks that ``register`` puts into a list as it makes them; all are removed at the end."""
    handles: list[Any] = []
    try:
        register(handles)
        yield
    finally:
        undo([handle.remove for handle in handles])


def undo(steps: list[Callable[[], Any]]) -> None:
    """Do every step, each of which may be done twice; an interrupt meanwhile is raised after the last one."""
    interrupt: KeyboardInterrupt | None = None
    while steps:
        try:
            steps[-1]()
            steps.pop()
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


_ENTERED: ContextVar[tuple[object, ...]] = ContextVar("saturation_entered", default=())


class Scope:
    """Who is affected: code that runs in the context that entered, and nobody else."""

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Mark the calling context as inside until the end of the block."""
        _ENTERED.set((*_ENTERED.get(), self))
        try:
            yield
        finally:
            _ENTERED.set(tuple(scope for scope in _ENTERED.get() if scope is not self))

    def __bool__(self) -> bool:
        return self in _ENTERED.get()
