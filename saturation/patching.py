"""Change a model's forwards or hook its modules for a while, and put back exactly what stood there.

Restoring survives an interrupt that arrives in its midst, and a change acts only for the context (thread or task)
that made it: everybody else who calls the same model meanwhile gets the model as it was. Whoever changes a model holds
it alone, since the changes of two would not come off in the order they went on.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import nn

_LOG = logging.getLogger(__name__)
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


_LAID: WeakKeyDictionary[nn.Module, list[Any]] = WeakKeyDictionary()  # module -> what lay there, and laid on it since


@contextmanager
def patched(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Replace the forward of modules for the length of the block.

    Parameters
    ----------
    forwards
        For each module the callable that stands in for its forward. Instance attributes (accelerate keeps its hook
        there) come back as they were.
    """
    with ensured(partial(_take_up, forwards)):
        for module, forward in forwards.items():
            laid, there = _LAID.setdefault(module, []), vars(module).get("forward", _MISSING)
            if not laid or laid[-1] is not there:
                laid[:] = [there]
            laid.append(forward)
            module.forward = forward
        yield


def _take_up(forwards: Mapping[nn.Module, Callable[..., Any]]) -> None:
    """Uncover what lies below these forwards, whatever was laid on them since.

    An interrupt can delay the end of an inner block until its outer one has ended; then nothing is left to take up.
    """
    for module, forward in forwards.items():
        laid = _LAID.get(module, [])
        if (place := next((place for place, one in enumerate(laid) if one is forward), 0)) == 0:
            continue
        if (below := laid[place - 1]) is _MISSING:
            vars(module).pop("forward", None)
        else:
            module.forward = below
        del laid[place:]


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


_UNCOMPILED: set[object] = set()  # blocks under way in which nothing runs compiled
_STANCE: list[Any] = []  # what undoes the stance that they gave torch's compiler
_TURNING = threading.Lock()
_SAID: WeakSet[nn.Module] = WeakSet()  # models of which it was said that they are compiled


def compiled(model: nn.Module) -> list[str]:
    """Classes of the parts of a model that torch.compile made or marked."""
    return [type(part).__name__ for part in model.modules() if _is_compiled(part)]


def _is_compiled(part: nn.Module) -> bool:
    forward = vars(part).get("forward")
    return part._compiled_call_impl is not None or hasattr(forward, "_torchdynamo_orig_callable")


@contextmanager
def uncompiled(model: nn.Module | None = None) -> Iterator[None]:
    """Run what was compiled as it was written, in every thread, until the last such block ends.

    A hook or a patch inside a compiled region is not seen, or breaks its graph at every layer. Where nothing has
    loaded torch's compiler there is nothing to do. Of the model, where one is given, it is said once that it was
    compiled.
    """
    block = object()
    if model is not None and "torch._dynamo" in sys.modules and model not in _SAID and (parts := compiled(model)):
        _SAID.add(model)
        _LOG.warning(
            "%d parts of the model are compiled (%s): inside watch and skip they run as they were written, since a "
            "compiled forward sees no hook or breaks its graph at every layer; numbers are the same, speed is that of "
            "the model without torch.compile, and behind the block it runs compiled again",
            len(parts),
            ", ".join(sorted(set(parts))),
        )
    with ensured(partial(_compile_again, block)):
        if "torch._dynamo" in sys.modules:
            with _TURNING:
                _UNCOMPILED.add(block)
                if not _STANCE:
                    _STANCE.append(torch.compiler.set_stance("force_eager"))
        yield


def _compile_again(block: object) -> None:
    with _TURNING:
        _UNCOMPILED.discard(block)
        if _STANCE and not _UNCOMPILED:
            _STANCE.pop().__exit__(None, None, None)


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


@dataclass(eq=False)
class _Hold:
    """A model in somebody's hands: the thread, and the scopes entered one inside the other."""

    thread: int
    scopes: tuple[Scope, ...]


_HELD: WeakKeyDictionary[nn.Module, _Hold] = WeakKeyDictionary()
_TAKING = threading.Lock()
_EVERY = 0.005  # seconds between two looks; a Condition's own lock could be left locked by an interrupt


@contextmanager
def alone(model: nn.Module, scope: Scope) -> Iterator[None]:
    """Hold a model, so that nobody else changes it meanwhile; wait while another thread does.

    Parameters
    ----------
    model
        Whose modules will be changed.
    scope
        Of the one who asks. Inside a scope that holds the model already, its holder goes on holding it.

    Raises
    ------
    RuntimeError
        Where another task of the same thread holds the model: waiting for it would never end.
    """
    with ensured(partial(_let_go, model, scope)):
        while scope not in (hold := _taken(model, scope)).scopes:
            if hold.thread == threading.get_ident():
                raise RuntimeError(
                    "expected a model that no other task of this thread holds, but one watches or skips in it; let "
                    "that one end first, or run the two in threads of their own, which take turns"
                )
            free(model)
        yield


def held(model: nn.Module) -> bool:
    """Whether somebody holds a model now."""
    return model in _HELD


def free(model: nn.Module, timeout: float | None = None) -> bool:
    """Wait until nobody holds a model; False if that took longer than so many seconds."""
    until = None if timeout is None else time.monotonic() + timeout
    while model in _HELD:
        if until is not None and time.monotonic() >= until:
            return False
        time.sleep(_EVERY)
    return True


def _taken(model: nn.Module, scope: Scope) -> _Hold:
    """Who holds a model, `scope` among them where nobody did or where it is entered inside the holder's."""
    with _TAKING:
        hold = _HELD.setdefault(model, _Hold(threading.get_ident(), (scope,)))
        if hold.thread == threading.get_ident() and scope not in hold.scopes and any(hold.scopes):
            hold.scopes = (*hold.scopes, scope)
        return hold


def _let_go(model: nn.Module, scope: Scope) -> None:
    hold = _HELD.get(model)
    if hold is not None and scope in hold.scopes:
        if len(hold.scopes) == 1:
            _HELD.pop(model, None)
        else:
            hold.scopes = tuple(one for one in hold.scopes if one is not scope)
