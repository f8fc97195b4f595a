"""Policies as JSON and as files; the arrays of fitted policies are in a safetensors file beside the JSON file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ..atomic import located, writing_together
from .actions import ACTIONS
from .fitted_arrays import Arrays
from .policy import KINDS, Policy

_BESIDE = ".safetensors"


def from_json(source: str | Mapping[str, Any], arrays: Iterable[Arrays] = ()) -> Policy:
    """Read a policy that `Policy.to_json` wrote.

    Parameters
    ----------
    source
        JSON text, or its mapping.
    arrays
        Arrays of a fitted policy, which JSON names by hash; `load` reads both from files.

    Returns
    -------
    Policy

    Raises
    ------
    ValueError
        For an unknown policy or option (the message lists the known ones), a missing or invalid option, or missing
        arrays.
    """
    read = json.loads(source) if isinstance(source, str) else source
    given = dict(read) if isinstance(read, Mapping) else {}
    kind = KINDS.get(str(given.pop("policy", "")))
    if kind is None:
        raise ValueError(f"expected a 'policy' among {', '.join(KINDS)}, got {source!r}; name one of them")
    return _made(kind, given, {one.digest: one for one in arrays}, source)


def _made(kind: Any, given: dict[str, Any], held: dict[str, Arrays], source: Any) -> Any:
    """Make a policy or an action from options, whose names are checked."""
    known = {one.name: one.default is one.default_factory is MISSING for one in fields(kind)}
    if unknown := [name for name in given if name not in known]:
        raise ValueError(
            f"expected options of {kind.__name__} among {', '.join(known)}, got {unknown[0]!r}; correct it"
        )
    if lacking := [name for name, needed in known.items() if needed and name not in given]:
        raise ValueError(f"expected the option {lacking[0]!r} of {kind.__name__}, got {source!r}; add it")
    return kind(**{name: _value(kind, name, value, held, source) for name, value in given.items()})


def _value(kind: Any, name: str, value: Any, held: dict[str, Arrays], source: Any) -> Any:
    if name == "action" and isinstance(value, Mapping):
        given = dict(value)
        called = given.pop("action", "Narrow")  # older files have no name: Narrow was the only action
        if called not in ACTIONS:
            raise ValueError(f"expected an action among {', '.join(ACTIONS)}, got {called!r}; name one of them")
        return _made(ACTIONS[called], given, held, source)
    if isinstance(value, Mapping) and set(value) == {"arrays"}:
        if value["arrays"] not in held:
            raise ValueError(
                f"expected the arrays {value['arrays'][:12]}... of {kind.__name__} beside its JSON, got none such; "
                "read the policy's file with saturation.policies.load, and save it with saturation.policies.save"
            )
        return held[value["arrays"]]
    return tuple(value) if isinstance(value, list) else value


def save(policy: Policy, path: str | os.PathLike[str]) -> None:
    """Write a policy as a JSON file, and its arrays, if any, as a safetensors file of the same name.

    Raises
    ------
    ValueError
        If the path does not end in ".json".
    OSError
        If it cannot be written.
    """
    path = _json(path)
    places = [path, path.with_suffix(_BESIDE)]
    tensors = tensors_of(arrays_of(policy))
    with writing_together(places if tensors else places[:1], "the policy") as parts:
        parts[0].write_text(policy.to_json(), encoding="utf-8")
        if tensors:
            save_file(tensors, parts[1])


def load(path: str | os.PathLike[str]) -> Policy:
    """Read a policy that `save` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no policy, or its arrays are missing, damaged or of another policy.
    """
    path = _json(path)
    return from_json(path.read_text(encoding="utf-8"), beside(path))


def beside(path: str | os.PathLike[str]) -> list[Arrays]:
    """The arrays in the safetensors file beside a policy's JSON file; empty where there is no such file."""
    path = Path(path).with_suffix(_BESIDE)
    found: dict[str, dict[str, Any]] = {}
    if path.is_file():
        try:
            tensors = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"expected the arrays of a policy in {path}, got a damaged file: {error}") from error
        for name, array in tensors.items():
            number, _, own = name.partition("/")
            found.setdefault(number, {})[own] = array
    return [Arrays(one) for one in found.values()]


def tensors_of(arrays: Iterable[Arrays]) -> dict[str, np.ndarray]:
    """Arrays by the names that `beside` reads; the content of a safetensors file."""
    return {f"{number}/{name}": array for number, one in enumerate(arrays) for name, array in one.items()}


def _json(path: str | os.PathLike[str]) -> Path:
    path = located(path)
    if path.suffix != ".json":
        raise ValueError(f"expected a policy's file to end in .json, got {path.name!r}; rename it")
    return path


def arrays_of(holder: Any) -> list[Arrays]:
    """All arrays of a policy and of its action."""
    found = []
    for one in fields(holder):
        value = getattr(holder, one.name)
        if isinstance(value, Arrays):
            found.append(value)
        elif is_dataclass(value):
            found += arrays_of(value)
    return found
