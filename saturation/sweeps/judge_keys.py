"""Judge keys: descriptions that tell judges apart, by code, settings and captured values."""

from __future__ import annotations

import dis
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path, PurePath
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

_PLAIN = (str, bytes, int, float, complex, type(None), PurePath, re.Pattern, np.generic)
_HOLDERS = (dict, list, tuple, set, frozenset, partial, MethodType, CodeType)
_CONSTANTS = (tuple, frozenset, CodeType)  # Python may share one object among equal ones
_STANDARD = Path(inspect.__file__).parent  # folder of Python's own modules
_FIRST: WeakKeyDictionary[Any, dict[str, set[str]]] = WeakKeyDictionary()


def told(judge: Any) -> list[str]:
    """Describe a judge by all that tells it from others, in a fixed order.

    Functions are described by their code, defaults, closures and the globals that they name; objects by class and
    attributes; partials, lists, tuples, sets and dicts by their content; the user's own modules by their source.
    Libraries, and their objects such as a client, a model or a table, only by name.

    A judge may change its state: it stays the same judge as long as its first description still holds.
    """
    now = set(_parts(judge, "judge", {}))
    owner = judge.__self__ if isinstance(judge, MethodType) else judge
    try:
        known = _FIRST.setdefault(owner, {})
    except TypeError:  # no weak reference: a change of state makes it another judge
        return sorted(now)
    name = getattr(judge, "__name__", "")
    if name not in known or not known[name] <= now:
        known[name] = now
    return sorted(known[name])


def _parts(given: Any, at: str, seen: dict[int, tuple[str, Any]]) -> Iterator[str]:
    """Describe a value, each part with its path; a value met before by its first path."""
    if isinstance(given, _PLAIN):
        yield f"{at} = {given!r}"
        return
    kind = given if isinstance(given, type | FunctionType | ModuleType) else type(given)
    name = getattr(given, "__qualname__", getattr(kind, "__qualname__", kind.__name__))  # a module has but the last
    yield f"{at}: {getattr(kind, '__module__', '')} {name}"
    if id(given) in seen:
        yield f"{at} is {seen[id(given)][0]}"
        return
    if not (at == "judge" or _opened(given) or _own(kind)):
        return
    if not isinstance(given, _CONSTANTS):
        seen[id(given)] = at, given  # kept alive, so that no other object gets its id
    if isinstance(given, type | ModuleType):
        with suppress(OSError, TypeError):  # typed into a prompt, or not written in Python
            yield f"{at}: {inspect.getsource(given)}"
    for inner, part in _inside(given):
        yield from _parts(part, f"{at}.{inner}", seen)


def _opened(given: Any) -> bool:
    """Whether a value is described by its content whatever its class: containers, wrappers and records."""
    wraps = "__wrapped__" in getattr(given, "__dict__", ())
    return isinstance(given, _HOLDERS) or wraps or (is_dataclass(given) and not isinstance(given, type))


def _own(kind: Any) -> bool:
    """Whether a class or function is from the user's notebook or file, not from Python or an installed package."""
    name = kind.__name__ if isinstance(kind, ModuleType) else kind.__module__
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return name not in sys.builtin_module_names
    path = Path(file)
    return not (path.is_relative_to(_STANDARD) or {"site-packages", "dist-packages"} & set(path.parts))


def _inside(given: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a value by name."""
    match given:
        case dict():
            yield from (
                (repr(key) if isinstance(key, (*_PLAIN, tuple)) else type(key).__name__, given[key]) for key in given
            )
        case list() | tuple():
            yield from ((str(place), part) for place, part in enumerate(given))
        case set() | frozenset():
            yield from ((repr(part), part) for part in given if isinstance(part, _PLAIN))
        case partial():
            yield from (("func", given.func), ("args", given.args), ("keywords", given.keywords))
        case MethodType():
            yield from (("func", given.__func__), ("self", given.__self__))
        case FunctionType():
            yield from _of_function(given)
        case CodeType():  # not its source: several functions may share a line, or be typed into a prompt
            yield from (("does", given.co_code), ("names", given.co_names), ("constants", given.co_consts))
        case type():
            yield "bases", given.__bases__
            yield from ((name, part) for name, part in vars(given).items() if _written(name, part))
        case ModuleType():
            return
        case _:
            yield "type", type(given)
            if is_dataclass(given):
                yield from ((field.name, getattr(given, field.name, None)) for field in fields(given))
            else:
                yield from getattr(given, "__dict__", {}).items()


def _written(name: str, part: Any) -> bool:
    """Whether an entry of a class was written by its author, not by Python."""
    return isinstance(part, FunctionType) or not name.startswith("__")


def _of_function(given: FunctionType) -> Iterator[tuple[str, Any]]:
    yield from (("code", given.__code__), ("attributes", vars(given)))
    yield from (("defaults", given.__defaults__), ("keywords", given.__kwdefaults__))
    for name, cell in zip(given.__code__.co_freevars, given.__closure__ or (), strict=True):
        with suppress(ValueError):  # not bound yet
            yield name, cell.cell_contents
    for name in sorted(_globals(given.__code__) & given.__globals__.keys()):
        yield name, given.__globals__[name]


def _globals(code: CodeType) -> set[str]:
    """Names of the globals that a function and its inner functions use."""
    own = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return own.union(*(_globals(part) for part in code.co_consts if isinstance(part, CodeType)))
