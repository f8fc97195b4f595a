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
def ensured(restore: Callable[[], object]) -> Iterator[None]:
    """Call ``restore``, which must bear to be called twice, at the end of the block, come what may."""
    interrupt: KeyboardInterrupt | None = None
    try:
        yield
    finally:
        while True:  # no call stands between here and the inner try, so no interrupt can slip in
            try:
                restore()
                break
            except KeyboardInterrupt as stop:
                interrupt = stop
        if interrupt is not None:
            raise interrupt


@contextmanager
def patched(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Replace the forward of modules for the length of the block.

    Parameters
    ----------
    forwards
        For each module the callable that stands in for its forward. Instance attributes (accelerate keeps its hook
        there) come back as they were.
    """
    before = {module: vars(module).get("forward", _MISSING) for module in forwards}
    with ensured(partial(_put_back, before)):
        for module, forward in forwards.items():
            module.forward = forward
        yield


def _put_back(before: Mapping[nn.Module, Any]) -> None:
    for module, forward in before.items():
        if forward is _MISSING:
            vars(module).pop("forward", None)
        else:
            module.forward = forward


class Hooks:
    """Forward hooks that are all taken off at the end of a `with` block."""

    def __init__(self) -> None:
        self._made: list[tuple[nn.Module, Callable[..., Any]]] = []

    def before(self, module: nn.Module, hook: Callable[..., None]) -> None:
        """Call ``hook(module, args, named)`` before each forward of the module."""
        hook = _whole(hook, 2)
        self._made.append((module, hook))
        module.register_forward_pre_hook(hook, with_kwargs=True)

    def after(self, module: nn.Module, hook: Callable[..., None]) -> None:
        """Call ``hook(module, args, named, output)`` after each forward of the module."""
        hook = _whole(hook, 3)
        self._made.append((module, hook))
        module.register_forward_hook(hook, with_kwargs=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The block at whose end the hooks are gone, those too whose registration was interrupted."""
        with ensured(self._take_off):
            yield

    def _take_off(self) -> None:
        for module, hook in self._made:
            for hooks, marks in (
                (module._forward_hooks, module._forward_hooks_with_kwargs),
                (module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs),
            ):
                for key in [key for key, value in hooks.items() if value is hook]:
                    marks.pop(key, None)
                    del hooks[key]


def _whole(hook: Callable[..., None], count: int) -> Callable[..., None]:
    """The hook, deaf to calls without the keyword arguments.

    torch keeps a hook and the mark that it wants them in two places. While one thread registers it or takes it off,
    a forward pass of another thread may find the one without the other; that pass is none of the hook's business.
    """

    def called(module: nn.Module, *given: Any) -> None:
        if len(given) == count:
            hook(module, *given)

    return called


_ENTERED: ContextVar[tuple[object, ...]] = ContextVar("saturation_entered", default=())


class Scope:
    """Who is affected: code that runs in the context that entered, and nobody else."""

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Mark the calling context as inside until the end of the block."""
        with ensured(self._leave):
            _ENTERED.set((*_ENTERED.get(), self))
            yield

    def _leave(self) -> None:
        _ENTERED.set(tuple(scope for scope in _ENTERED.get() if scope is not self))

    def __bool__(self) -> bool:
        return self in _ENTERED.get()
