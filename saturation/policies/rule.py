"""What every policy is, and how the live run and the replay ask it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..trace import Trace


@dataclass(frozen=True, eq=False)
class Steps:
    """The tokens a policy decides about, grouped by sequence and in order, [token] each.

    Attributes
    ----------
    sequence, position
        Number of the sequence, and of the token inside it from 0.
    generated
        0 in prefill; n >= 1 where the pass consumes generated token number n.
    """

    sequence: np.ndarray
    position: np.ndarray
    generated: np.ndarray

    @classmethod
    def of(cls, trace: Trace) -> Steps:
        """The tokens of a trace that has all layers of its model."""
        if trace.kept_layers is not None:
            raise ValueError(
                "expected a trace of all layers of its model, but this one keeps the selected layers "
                f"{', '.join(map(str, trace.kept_layers))}; give the trace that they were selected from"
            )
        return cls(trace.tokens["sequence"].to_numpy(), trace.tokens["position"].to_numpy(), trace.generated)

    @property
    def decode(self) -> np.ndarray:
        """Which tokens are decoded, bool [token]."""
        return self.generated > 0


_KINDS = {  # type of an option, as it is written in the class -> what it is called, and its types
    "int": ("a whole number", (Integral,)),
    "float": ("a number", (Real,)),
    "bool": ("True or False", (bool, np.bool_)),
}


class Policy(ABC):
    """Which feed-forward blocks to skip.

    The caller asks, for the tokens of one forward pass or of a whole trace at once::

        policy.check(layers)
        state = policy.start(steps, layers)
        for layer in range(layers):  # those before the first and behind the last skippable one may be left out
            skip = policy.skips(state, layer)  # [token]
            # the block runs where it is not skipped; if policy.needs(state, layer), its distance is measured
            state = policy.step(state, layer, distance)  # [token], NaN where skipped or not measured

    Attributes
    ----------
    causal
        True: `step` is given the distances of the previous token of each sequence (`previous_token`), so that a
        decision never waits for a number of its own token.
    """

    causal = False

    def __init_subclass__(cls) -> None:
        _POLICIES[cls.__name__] = cls

    def __post_init__(self) -> None:
        """Raise ValueError for an option that is no whole number, number or bool where its type says so."""
        for option in fields(self):  # type: ignore[arg-type]
            kind, _, none = str(option.type).partition(" | ")
            value = getattr(self, option.name)
            if kind not in _KINDS or (none and value is None):
                continue
            called, types = _KINDS[kind]
            if not isinstance(value, types) or (isinstance(value, bool) and kind != "bool"):
                raise ValueError(
                    f"expected {option.name} of {type(self).__name__} to be {called}{' or None' if none else ''}, got "
                    f"{value!r}; correct it"
                )

    @abstractmethod
    def skippable(self, layers: int) -> range | tuple[int, ...]:
        """Layers that may be skipped at all, of a model with so many."""

    @abstractmethod
    def eligible(self, steps: Steps) -> np.ndarray:
        """Tokens at which blocks may be skipped, bool [token]."""

    @abstractmethod
    def start(self, steps: Steps, layers: int) -> Any:
        """State before the first layer."""

    @abstractmethod
    def skips(self, state: Any, layer: int) -> np.ndarray:
        """Whether the block of this layer is skipped, bool [token]."""

    @abstractmethod
    def describe(self) -> str:
        """A few words for a legend."""

    def check(self, layers: int) -> None:
        """Raise ValueError where the policy does not fit a model with so many layers."""

    def needs(self, state: Any, layer: int) -> bool:
        """Whether the distance of this layer must be measured."""
        return False

    def step(self, state: Any, layer: int, distance: np.ndarray) -> Any:
        """State after this layer; `distance` [token] is NaN where the block did not run."""
        return state

    def to_json(self) -> str:
        """The policy as JSON text; `from_json` reads it."""
        options = asdict(self)  # type: ignore[call-overload]
        return json.dumps({"policy": type(self).__name__, **options}, default=lambda number: number.item())


_POLICIES: dict[str, type[Policy]] = {}


def from_json(source: str | Mapping[str, Any]) -> Policy:
    """The policy that `Policy.to_json` wrote.

    Parameters
    ----------
    source
        JSON text, or the mapping it holds.

    Returns
    -------
    Policy

    Raises
    ------
    ValueError
        For an unknown policy or option, with the known ones; for an option that is missing or cannot be.
    """
    read = json.loads(source) if isinstance(source, str) else source
    given = dict(read) if isinstance(read, Mapping) else {}
    kind = _POLICIES.get(str(given.pop("policy", "")))
    if kind is None:
        raise ValueError(f"expected a 'policy' among {', '.join(_POLICIES)}, got {source!r}; name one of them")
    known = {one.name: one.default is one.default_factory is MISSING for one in fields(kind)}  # type: ignore[arg-type]
    if unknown := [name for name in given if name not in known]:
        raise ValueError(
            f"expected options of {kind.__name__} among {', '.join(known)}, got {unknown[0]!r}; correct it"
        )
    if lacking := [name for name, needed in known.items() if needed and name not in given]:
        raise ValueError(f"expected the option {lacking[0]!r} of {kind.__name__}, got {source!r}; add it")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def dense(trace: Trace) -> Steps:
    """The tokens of a trace to fit on; ValueError where it has none, or is of a run that skipped."""
    if not len(trace):
        raise ValueError("expected a trace with tokens to fit on, got an empty one; record some")
    if trace.skipped.any():
        raise ValueError(
            f"expected a dense trace to fit on, but in this one {trace.skipped.mean():.1%} of the blocks were skipped; "
            "record one without a policy"
        )
    return Steps.of(trace)


def cold(start: int, end: int) -> str:
    """How a legend says which layers always run: ", cold 3+2", or nothing where there are none."""
    return f", cold {start}+{end}" if start or end else ""


def previous_token(distance: np.ndarray, sequence: np.ndarray, carry: dict[int, Any]) -> np.ndarray:
    """The distance of the token before, within each sequence.

    Parameters
    ----------
    distance, sequence
        Of the tokens of this pass, [token], grouped by sequence and in order.
    carry
        Last distance of each sequence before this pass; brought up to date in place.

    Returns
    -------
    numpy.ndarray
        [token]; NaN where a sequence has no token before.
    """
    before = np.empty_like(distance)
    before[1:] = distance[:-1]
    first = np.flatnonzero(np.append(True, sequence[1:] != sequence[:-1]))[: len(distance)]
    before[first] = [carry.get(number, np.nan) for number in sequence[first].tolist()]
    last = np.append(first[1:], len(distance))[: len(first)] - 1
    carry.update(zip(sequence[last].tolist(), distance[last].tolist(), strict=True))
    return before
