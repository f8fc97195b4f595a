"""Validation of the parts of a trace."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol, get_args

import numpy as np
import pandas as pd

Phase = Literal["prefill", "decode"]
PHASES: tuple[str, ...] = get_args(Phase)
TOKEN_COLUMNS = ("sequence", "position", "phase", "token_id", "text")
OPTIONAL = (
    "attention_distance",
    "attention_growth",
    "block_distance",
    "block_growth",
    "naive_cosine",
    "magnitude",
    "median",
)
GROUPS = ("distance", "growth", *OPTIONAL)  # arrays of numbers, [token, layer]

_OF_THE_FFN = ("distance", "growth", "naive_cosine")  # NaN exactly where the FFN did not run
_LEAST = {"sequence": 0, "position": 0, "token_id": -1}  # -1: the model was fed an embedding, not a token
_MOST = np.iinfo(np.int32).max
_RANGE = {
    "distance": (0.0, 2.0),
    "growth": (0.0, np.inf),
    "cosine": (-1.0, 1.0),
    "magnitude": (0.0, np.inf),
    "median": (0.0, np.inf),
}  # by the last word of the name
_ROUNDING = 1e-5  # how far rounding may push a number out of its range


class Measured(Protocol):
    """The parts of a Trace that are checked against each other; `trace` imports this file, not the other way."""

    @property
    def tokens(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def layers(self) -> int: ...  # noqa: D102
    @property
    def layer_numbers(self) -> np.ndarray: ...  # noqa: D102
    @property
    def skipped(self) -> np.ndarray: ...  # noqa: D102
    @property
    def groups(self) -> dict[str, np.ndarray]: ...  # noqa: D102


def tokens_of(given: pd.DataFrame) -> pd.DataFrame:
    """Copy a frame of tokens into the columns and types of a trace, with rows numbered from 0."""
    frame = pd.DataFrame(given)
    if set(frame.columns) != set(TOKEN_COLUMNS):
        raise ValueError(
            f"tokens must have exactly the columns {', '.join(TOKEN_COLUMNS)}, but it has "
            f"{', '.join(map(str, frame.columns)) or 'none'}"
        )
    columns = {name: _whole_numbers(name, frame[name].to_numpy()) for name in _LEAST}
    columns |= {"phase": _phases(frame["phase"]), "text": _texts(frame["text"])}
    return pd.DataFrame({name: columns[name] for name in TOKEN_COLUMNS})


def _whole_numbers(name: str, values: np.ndarray) -> np.ndarray:
    if len(values) == 0:
        return np.empty(0, np.int32)
    whole = values.dtype.kind in "iu"
    bad = (values < _LEAST[name]) | (values > _MOST) if whole else np.ones(len(values), bool)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"tokens[{name!r}] must hold whole numbers from {_LEAST[name]} to {_MOST}, but row {row} has "
            f"{values[row]} ({values.dtype})"
        )
    return values.astype(np.int32)


def _phases(values: pd.Series) -> pd.Categorical:
    codes = np.select([values == phase for phase in PHASES], range(len(PHASES)), -1)
    if (bad := codes < 0).any():
        row = int(np.argmax(bad))
        raise ValueError(f"tokens['phase'] must be 'prefill' or 'decode', but row {row} has {values.iloc[row]!r}")
    return pd.Categorical.from_codes(codes, categories=PHASES)


def _texts(values: pd.Series) -> pd.Series:
    if len(values) and pd.api.types.infer_dtype(values, skipna=False) != "string":
        row = next(row for row, value in enumerate(values) if not isinstance(value, str))
        raise ValueError(
            f"tokens['text'] must hold text, empty where there is none, but row {row} has {values.iloc[row]!r}"
        )
    try:
        return values.astype("str").reset_index(drop=True)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"tokens['text'] must be text that UTF-8 can hold, but one row has {error.object!r}; decode "
            "bytes with errors='replace'"
        ) from error


def json_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a mapping through JSON: tuples become lists, keys become text."""
    try:
        return json.loads(json.dumps(dict(given), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            "provenance must hold only what JSON can (text, finite numbers, true, false, null, lists and "
            f"mappings of them), but: {error}"
        ) from error


def frozen(name: str, given: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Read-only view of an array, float32 or bool [token, layer]."""
    array = np.asarray(given)
    wanted = np.dtype(bool if name == "skipped" else np.float32)
    if array.shape != shape or array.dtype.kind != wanted.kind or array.dtype.itemsize < wanted.itemsize:
        raise ValueError(
            f"{name} must be {wanted} [token, layer] of shape {shape}, but it is {array.dtype} of shape {array.shape}"
        )
    view = array.astype(wanted, copy=False).view()
    view.flags.writeable = False
    return view


def layers_of(given: Iterable[int] | None, layers: int) -> tuple[int, ...] | None:
    """Check the model's own numbers of the layers kept, in rising order."""
    if given is None:
        return None
    kept = tuple(int(layer) for layer in given)
    if len(kept) != layers or kept != tuple(sorted(set(kept))) or kept[0] < 0:
        raise ValueError(f"kept_layers must be {layers} different layer numbers from 0, rising, but it is {kept}")
    return kept


def numbers(trace: Measured, name: str) -> None:
    """Raise ValueError for the first impossible number of a group; the message names its layer and token."""
    array, skipped = getattr(trace, name), trace.skipped  # [token, layer]
    least, most = _RANGE[name.split("_")[-1]]
    empty = np.isnan(array)
    if (bad := ~np.isfinite(array) & ~(empty & skipped)).any():
        raise ValueError(
            f"non-finite {name} at {_first(trace, bad)}: expected a finite number wherever a block ran, got "
            f"{array[bad][0]}; look for overflow in the model's activations (float16 ends at 65504, bfloat16 "
            "and float32 do not), or mark the block in `skipped` if it did not run"
        )
    if (bad := (array < least - _ROUNDING) | (array > most + _ROUNDING)).any():
        raise ValueError(
            f"impossible {name} at {_first(trace, bad)}: expected {least:g} to {most:g}, got {array[bad][0]}"
        )
    if name in _OF_THE_FFN and (bad := skipped & ~empty).any():
        raise ValueError(
            f"unexpected {name} at {_first(trace, bad)}: a block that did not run has none, so expected NaN, "
            f"got {array[bad][0]}; put NaN there, or clear its mark in `skipped`"
        )


def _first(trace: Measured, bad: np.ndarray) -> str:
    """Describe the first marked cell of a mask [token, layer]."""
    token, column = (int(index) for index in np.unravel_index(np.argmax(bad), bad.shape))
    row = trace.tokens.iloc[token]
    place = f"sequence {row['sequence']}, position {row['position']}, {row['text']!r}"
    return f"layer {trace.layer_numbers[column]}, token {token} ({place})"


def known(what: str, asked: Any, there: Iterable[Any]) -> list[Any]:
    """Return the requested value or values as a sorted list; ValueError for one that the trace does not have."""
    values = [asked] if isinstance(asked, str) or not isinstance(asked, Iterable) else list(asked)
    have = list(there)
    if strange := sorted(set(values) - set(have)):
        listed = ", ".join(map(str, have if len(have) <= 12 else [*have[:10], "...", have[-1]]))
        raise ValueError(f"this trace has no {what} {strange[0]!r}; it has the {what}s {listed or '(none)'}")
    return sorted(set(values))


def kin(first: Measured, other: Measured, number: int) -> None:
    """Raise ValueError if two traces cannot be concatenated: another model, layers or groups of numbers."""
    for name in ("model", "revision", "dtype"):
        ours, theirs = getattr(first, name), getattr(other, name)
        if ours != theirs:
            raise ValueError(
                f"expected traces of one model, but trace {number} has {name} {theirs!r} where the first has "
                f"{ours!r}; draw them side by side instead: figures take a mapping from label to trace"
            )
    if list(first.layer_numbers) != list(other.layer_numbers):
        raise ValueError(
            f"expected traces of the same layers, but trace {number} has {other.layers} where the first has "
            f"{first.layers}, or other ones; `select` the same layers of each"
        )
    if first.groups.keys() != other.groups.keys():
        raise ValueError(
            f"expected traces with the same numbers, but trace {number} has {', '.join(other.groups)} where "
            f"the first has {', '.join(first.groups)}; record them with the same `also`"
        )
