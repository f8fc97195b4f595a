"""What tells one judge from another: its code, and all that its functions and objects were given."""

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
_CONSTANTS = (tuple, frozenset, CodeType)  # Python may keep one for two that are equal
_STANDARD = Path(inspect.__file__).parent  # where the modules of Python lie
_FIRST: WeakKeyDictionary[Any, dict[str, set[str]]] = WeakKeyDictionary()


def told(judge: Any) -> list[str]:
    """All that tells a judge from others, in a fixed order.

    Functions are told by their code, their defaults, what they close over and the globals that they name; objects by
    their class and their attributes; partials, lists, tuples, sets and dicts by what they hold; one's own modules by
    their source. Libraries, and their objects such as a client, a model or a table, are told by name alone.

    A judge may take notes: while all that was told of it when it was first asked for still holds, it is the same.
    """
    now = set(_parts(judge, "judge", {}))
    owner = judge.__self__ if isinstance(judge, MethodType) else judge
    try:
        known = _FIRST.setdefault(owner, {})
    except TypeError:  # an object that cannot be remembered: its notes make it another
        return sorted(now)
    name = getattr(judge, "__name__", "")
    if name not in known or not known[name] <= now:
        known[name] = now
    return sorted(known[name])


def _parts(given: Any, at: str, seen: dict[int, tuple[str, Any]]) -> Iterator[str]:
    """What is told of a value, each part with the way to it; of what was met before, where."""
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
        seen[id(given)] = at, given  # kept, so that no other takes its id
    if isinstance(given, type | ModuleType):
        with suppress(OSError, TypeError):  # typed into a prompt, or not written in Python
            yield f"{at}: {inspect.getsource(given)}"
    for inner, part in _inside(given):
        yield from _parts(part, f"{at}.{inner}", seen)


def _opened(given: Any) -> bool:
    """Whether it is told by what it holds, wherever its class comes from: containers, wrappers and records."""
    wraps = "__wrapped__" in getattr(given, "__dict__", ())
    return isinstance(given, _HOLDERS) or wraps or (is_dataclass(given) and not isinstance(given, type))


def _own(kind: Any) -> bool:
    """Whether it is of a notebook or a file of one's own, and not of Python or an installed package."""
    name = kind.__name__ if isinstance(kind, ModuleType) else kind.__module__
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return name not in sys.builtin_module_names
    path = Path(file)
    return not (path.is_relative_to(_STANDARD) or {"site-packages", "dist-packages"} & set(path.parts))


def _inside(given: Any) -> Iterator[tuple[str, Any]]:
    """What a value is made of, by name."""
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
    """Whether an entry of a class was written by its author, and not by Python."""
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
    """Names that a function's code looks up outside it, and those of the functions inside it."""
    own = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return own.union(*(_globals(part) for part in code.co_consts if isinstance(part, CodeType)))
