"""Policies as typed text, such as "ffnskip:threshold=0.999,warmup=0"."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields
from typing import Any

from .policy import KINDS, Policy
from .serialization import from_json

_ENDING = "ffn"  # ending of policy names that may be left out
_WORDS = {"none": None, "true": True, "false": False}


def from_words(text: str) -> Policy:
    """Read a policy from its name, with options behind a colon.

    Parameters
    ----------
    text
        Such as "ffnskip:threshold=0.999,cold_start=3,prefill=true" or "static:layers=3+4". Case does not matter, the
        FFN at the end of a name may be left out, and + joins several numbers.

    Raises
    ------
    ValueError
        For an unknown policy, for text that is not option=value, and as for `from_json`.
    """
    name, _, behind = text.partition(":")
    kind = _kind(name)
    if kind is None:
        raise ValueError(f"expected a policy among {', '.join(map(str.lower, KINDS))}, got {name!r}; name one of them")
    several = {option.name for option in fields(kind) if str(option.type).startswith("tuple")}
    given: dict[str, Any] = {}
    for part in filter(None, behind.split(",")):
        option, equals, value = (piece.strip() for piece in part.partition("="))
        if not (option and equals and value) or option in given:
            raise ValueError(
                f"expected each option behind {name}: once, as in threshold=0.999,warmup=0, got {part!r}; correct it"
            )
        given[option] = _numbers(value) if "+" in value.lstrip("+") or option in several else _value(value)
    return from_json({"policy": kind.__name__, **given})


def is_worded(text: str) -> bool:
    """Whether a text begins with the name of a policy, so that `from_words` should read it."""
    return _kind(text.partition(":")[0]) is not None


def _kind(name: str) -> type[Policy] | None:
    called = name.strip().lower()
    return next((kind for known, kind in KINDS.items() if called in _names(known)), None)


def _names(known: str) -> tuple[str, str]:
    return known.lower(), known.lower().removesuffix(_ENDING)


def _numbers(value: str) -> list[Any]:
    return [_value(one.strip()) for one in value.split("+")]


def _value(text: str) -> Any:
    """A number, True, False or None; any other word as it stands."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text
