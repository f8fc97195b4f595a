"""Temporary changes to a model: patched forwards and hooks, restored exactly at the end of a block.

An interrupt during restoring does not stop it. A change acts only in the context (thread or task) that made it: other
threads that call the same model get the unchanged model. Only one thread at a time may change a model, since the
changes of two could be undone in the wrong order.
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
def restored(restore: Callable[[], object]) -> Iterator[None]:
    """Call ``restore`` at the end of the block, also after errors and interrupts; it must be safe to call twice."""
    interrupt: KeyboardInterrupt | None = None
    try:
        yield
    finally:
        while True:  # there is no call between here and the inner try, so no interrupt can arrive there
            try:
                restore()
                break
            except KeyboardInterrupt as stop:
                interrupt = stop
        if interrupt is not None:
            raise interrupt


_PATCHES: WeakKeyDictionary[nn.Module, list[Any]] = WeakKeyDictionary()  # module -> its own forward, then the patches


@contextmanager
def patched(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Replace the forward of modules until the end of the block.

    Parameters
    ----------
    forwards
        For each module the callable that replaces its forward. Instance attributes (accelerate keeps its hook there)
        are restored.
    """
    with restored(partial(_uninstall, forwards)):
        for module, forward in forwards.items():
            laid, there = _PATCHES.setdefault(module, []), vars(module).get("forward", _MISSING)
            if not laid or laid[-1] is not there:
                laid[:] = [there]
            laid.append(forward)
            module.forward = forward
        yield


def _uninstall(forwards: Mapping[nn.Module, Callable[..., Any]]) -> None:
    """Remove these forwards, and any patches on top of them.

    An interrupt can delay the end of an inner block until its outer block has ended; then nothing is left to remove.
    """
    for module, forward in forwards.items():
        laid = _PATCHES.get(module, [])
        if (place := next((place for place, one in enumerate(laid) if one is forward), 0)) == 0:
            continue
        if (below := laid[place - 1]) is _MISSING:
            vars(module).pop("forward", None)
        else:
            module.forward = below
        del laid[place:]


class Hooks:
    """Forward hooks that are all removed at the end of a `with` block."""

    def __init__(self) -> None:
        self._made: list[tuple[nn.Module, Callable[..., Any]]] = []

    def before(self, module: nn.Module, hook: Callable[..., None]) -> None:
        """Call ``hook(module, args, named)`` before each forward of the module."""
        hook = _with_keywords(hook, 2)
        self._made.append((module, hook))
        module.register_forward_pre_hook(hook, with_kwargs=True)

    def after(self, module: nn.Module, hook: Callable[..., None]) -> None:
        """Call ``hook(module, args, named, output)`` after each forward of the module."""
        hook = _with_keywords(hook, 3)
        self._made.append((module, hook))
        module.register_forward_hook(hook, with_kwargs=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Remove the hooks at the end of the block, also those whose registration was interrupted."""
        with restored(self._remove):
            yield

    def _remove(self) -> None:
        for module, hook in self._made:
            for hooks, marks in (
                (module._forward_hooks, module._forward_hooks_with_kwargs),
                (module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs),
            ):
                for key in [key for key, value in hooks.items() if value is hook]:
                    marks.pop(key, None)
                    del hooks[key]


def _with_keywords(hook: Callable[..., None], count: int) -> Callable[..., None]:
    """Wrap a hook so that it ignores calls without the keyword arguments.

    torch keeps a hook and the flag that it takes keyword arguments in two places. While one thread registers or removes
    it, a forward pass of another thread may find the hook without the flag. The hook is not meant for that pass.
    """

    def called(module: nn.Module, *given: Any) -> None:
        if len(given) == count:
            hook(module, *given)

    return called


_UNCOMPILED: set[object] = set()  # open `uncompiled` blocks
_STANCE: list[Any] = []  # the stance of torch's compiler while any is open
_STANCE_LOCK = threading.Lock()
_WARNED: WeakSet[nn.Module] = WeakSet()  # models for which the warning was logged


def compiled(model: nn.Module) -> list[str]:
    """Class names of the modules of a model that torch.compile made or marked."""
    return [type(part).__name__ for part in model.modules() if _is_compiled(part)]


def _is_compiled(part: nn.Module) -> bool:
    forward = vars(part).get("forward")
    return part._compiled_call_impl is not None or hasattr(forward, "_torchdynamo_orig_callable")


@contextmanager
def uncompiled(model: nn.Module | None = None) -> Iterator[None]:
    """Run compiled modules uncompiled, in every thread, until the last such block ends.

    A compiled region ignores hooks and patches inside it, or breaks its graph at every layer. Where torch's compiler is
    not loaded there is nothing to do. If the given model is compiled, this is logged once.
    """
    block = object()
    if model is not None and "torch._dynamo" in sys.modules and model not in _WARNED and (parts := compiled(model)):
        _WARNED.add(model)
        _LOG.warning(
            "%d parts of the model are compiled (%s): inside watch and skip they run as they were written, since a "
            "compiled forward sees no hook or breaks its graph at every layer; numbers are the same, speed is that of "
            "the model without torch.compile, and behind the block it runs compiled again",
            len(parts),
            ", ".join(sorted(set(parts))),
        )
    with restored(partial(_compile_again, block)):
        if "torch._dynamo" in sys.modules:
            with _STANCE_LOCK:
                _UNCOMPILED.add(block)
                if not _STANCE:
                    _STANCE.append(torch.compiler.set_stance("force_eager"))
        yield


def _compile_again(block: object) -> None:
    with _STANCE_LOCK:
        _UNCOMPILED.discard(block)
        if _STANCE and not _UNCOMPILED:
            _STANCE.pop().__exit__(None, None, None)


_ENTERED: ContextVar[tuple[object, ...]] = ContextVar("saturation_entered", default=())


class Scope:
    """The context (thread or task) in which a change acts; true only for code that runs inside it."""

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Mark the calling context as inside until the end of the block."""
        with restored(self._leave):
            _ENTERED.set((*_ENTERED.get(), self))
            yield

    def _leave(self) -> None:
        _ENTERED.set(tuple(scope for scope in _ENTERED.get() if scope is not self))

    def __bool__(self) -> bool:
        return self in _ENTERED.get()


@dataclass(eq=False)
class _Hold:
    """The holder of a model: its thread, and its nested scopes."""

    thread: int
    scopes: tuple[Scope, ...]


_HELD: WeakKeyDictionary[nn.Module, _Hold] = WeakKeyDictionary()
_HOLD_LOCK = threading.Lock()
_POLL = 0.005  # seconds between two checks; an interrupt could leave the lock of a Condition locked


@contextmanager
def exclusive(model: nn.Module, scope: Scope) -> Iterator[None]:
    """Hold a model exclusively until the end of the block; wait while another thread holds it.

    Parameters
    ----------
    model
        Whose modules will be changed.
    scope
        Scope of the caller. Inside a scope that holds the model already, the holder keeps it.

    Raises
    ------
    RuntimeError
        Where another task of the same thread holds the model, since waiting for it would never end.
    """
    with restored(partial(_release, model, scope)):
        while scope not in (hold := _holder(model, scope)).scopes:
            if hold.thread == threading.get_ident():
                raise RuntimeError(
                    "expected a model that no other task of this thread holds, but one watches or skips in it; let "
                    "that one end first, or run the two in threads of their own, which take turns"
                )
            free(model)
        yield


def held(model: nn.Module) -> bool:
    """Whether a model is held now."""
    return model in _HELD


def free(model: nn.Module, timeout: float | None = None) -> bool:
    """Wait until a model is no longer held; False if it still is after `timeout` seconds."""
    until = None if timeout is None else time.monotonic() + timeout
    while model in _HELD:
        if until is not None and time.monotonic() >= until:
            return False
        time.sleep(_POLL)
    return True


def _holder(model: nn.Module, scope: Scope) -> _Hold:
    """The holder of a model; adds `scope` to it where the model was free or the scope is nested in the holder's."""
    with _HOLD_LOCK:
        hold = _HELD.setdefault(model, _Hold(threading.get_ident(), (scope,)))
        if hold.thread == threading.get_ident() and scope not in hold.scopes and any(hold.scopes):
            hold.scopes = (*hold.scopes, scope)
        return hold


def _release(model: nn.Module, scope: Scope) -> None:
    hold = _HELD.get(model)
    if hold is not None and scope in hold.scopes:
        if len(hold.scopes) == 1:
            _HELD.pop(model, None)
        else:
            hold.scopes = tuple(one for one in hold.scopes if one is not scope)
