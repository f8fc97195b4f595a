"""The base class of policies, and the tokens that they decide about."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from ..trace import Trace
from .actions import Action
from .fitted_arrays import Arrays


@dataclass(frozen=True, eq=False)
class Steps:
    """The tokens that a policy decides about, grouped by sequence and in order, [token] each.

    Attributes
    ----------
    sequence, position
        Number of the sequence, and of the token inside it from 0.
    generated
        0 in prefill; n >= 1 where the pass consumes generated token number n.
    token_id
        Token id, -1 where the model was given embeddings; None where the policy does not read ids
        (`Policy.reads_tokens`), since ids may be on a device.
    """

    sequence: np.ndarray
    position: np.ndarray
    generated: np.ndarray
    token_id: np.ndarray | None = None

    @classmethod
    def of(cls, trace: Trace) -> Steps:
        """The tokens of a trace; ValueError where the trace lacks layers of its model."""
        if trace.kept_layers is not None:
            raise ValueError(
                "expected a trace of all layers of its model, but this one keeps the selected layers "
                f"{', '.join(map(str, trace.kept_layers))}; give the trace that they were selected from"
            )
        sequence, position, ids = (trace.tokens[name].to_numpy() for name in ("sequence", "position", "token_id"))
        return cls(sequence, position, trace.generated, ids)

    @property
    def decode(self) -> np.ndarray:
        """Mask of the decoded tokens, bool [token]."""
        return self.generated > 0


LAYERWISE = "layer by layer"  # when a decision is known: as the distances of the token's own pass come in,
BEFORE = "before the pass"  # from counters and token ids alone, all layers at once,
BEHIND = "behind a layer"  # or from the residual stream in front of one named block, for all blocks behind it

DISTANCE, CONFIDENCE = "distance", "confidence"  # measurements for a policy that decides layer by layer

FFN, ATTENTION = "FFN", "attention"  # the parts of a layer that a policy may leave out

SINK = 4  # positions at which policies never skip by default; data/README.md has the table

KINDS: dict[str, type[Policy]] = {}  # every policy by its name

_TYPES = {  # annotation of an option -> its name in error messages, and its types
    "int": ("a whole number", (Integral,)),
    "float": ("a number", (Real,)),
    "bool": ("True or False", (bool, np.bool_)),
}


@dataclass(frozen=True)
class Policy(ABC):
    """Base class of policies: which feed-forward blocks to skip, and which attention to drop.

    `known` says when the decision is known. A policy that decides layer by layer is called as follows, for the tokens
    of one forward pass or of a whole trace at once::

        policy.check(layers)
        state = policy.start(steps, layers)
        for layer in range(layers):  # those before the first and behind the last skippable one may be left out
            drop = policy.drops(state, layer)  # [token], where policy.droppable(layers) names any layer
            skip = policy.skips(state, layer)  # [token]
            # the block runs where it is not skipped; if policy.needs(state, layer), its distance is measured
            state = policy.step(state, layer, distance)  # [token], NaN where skipped or not measured

    A policy that decides about all layers at once (`AheadOfPass`, `BehindLayer` in `decided_ahead`) is asked once per
    pass: its state is the skip mask, bool [token, layer].

    Dropped attention adds nothing to the residual stream, but its keys and values are still computed and stored, so
    that later tokens attend to all positions. Most policies never drop any.

    Parameters
    ----------
    sink
        Positions at the start of every sequence at which no block is ever skipped, also in prefill; 0 protects none.
        The first token of a text is an *attention sink* (Xiao et al. 2023, arXiv 2309.17453): in many models
        an FFN writes a massive activation into it (Sun et al. 2024, arXiv 2402.17762) on which the attention of
        every later token rests, and all blocks behind look saturated there.

    Attributes
    ----------
    known
        When a token's decision is known: `LAYERWISE`, `BEFORE` or `BEHIND`.
    measures
        The measurement given to `step`: `DISTANCE` of the block, or `CONFIDENCE` behind the layer: the difference of
        the two largest probabilities in the early logits of the tokens that `asks` names.
    reads_tokens
        True where `start` needs token ids in its steps.
    causal
        True where `step` gets the distances of the previous token of each sequence (`previous_token`), so that a
        decision never waits for numbers of its own token.
    """

    sink: int = field(default=SINK, kw_only=True)
    action: Action | None = field(default=None, kw_only=True)

    known: ClassVar[str] = LAYERWISE
    measures: ClassVar[str] = DISTANCE
    reads_tokens: ClassVar[bool] = False
    causal = False

    def __init_subclass__(cls, *, abstract: bool = False) -> None:
        if not abstract:
            KINDS[cls.__name__] = cls

    def __post_init__(self) -> None:
        """Raise ValueError for an option of another type than annotated."""
        for option in fields(self):
            kind, _, none = str(option.type).partition(" | ")
            value = getattr(self, option.name)
            if kind not in _TYPES or (none and value is None):
                continue
            called, types = _TYPES[kind]
            if not isinstance(value, types) or (isinstance(value, bool) and kind != "bool"):
                raise ValueError(
                    f"expected {option.name} of {type(self).__name__} to be {called}{' or None' if none else ''}, got "
                    f"{value!r}; correct it"
                )
        if self.action is not None and not isinstance(self.action, Action):
            raise ValueError(
                f"expected action to be what saturation.narrow or saturation.stand_in gives, or None, got "
                f"{self.action!r}; measure one"
            )
        if self.sink < 0:
            raise ValueError(
                f"expected sink to be a number of positions from 0, got {self.sink}; 0 lets the first token be skipped"
            )

    @abstractmethod
    def skippable(self, layers: int) -> range | tuple[int, ...]:
        """The layers whose FFN may be skipped, of a model with `layers` layers."""

    @abstractmethod
    def acts_on(self, steps: Steps) -> np.ndarray:
        """Mask of the tokens at which the rule may skip blocks, not counting the sink, bool [token]."""

    def eligible(self, steps: Steps) -> np.ndarray:
        """Mask of the tokens at which blocks may be skipped, bool [token]: the rule acts on them, past the sink."""
        return self.acts_on(steps) & (steps.position >= self.sink)

    @abstractmethod
    def start(self, steps: Steps, layers: int) -> Any:
        """State before the first layer."""

    @abstractmethod
    def skips(self, state: Any, layer: int) -> np.ndarray:
        """Whether the block of this layer is skipped, bool [token]."""

    def droppable(self, layers: int) -> range | tuple[int, ...]:
        """The layers whose attention may be dropped, of a model with `layers` layers."""
        return ()

    def drops(self, state: Any, layer: int) -> np.ndarray:
        """Whether the attention of this layer is dropped, bool [token]."""
        return np.zeros_like(self.skips(state, layer))

    @abstractmethod
    def describe(self) -> str:
        """A few words for a legend."""

    def check(self, layers: int) -> None:
        """Raise ValueError where the policy does not fit a model with `layers` layers."""

    def needs(self, state: Any, layer: int) -> bool:
        """Whether the distance of this layer must be measured."""
        return False

    def asks(self, state: Any, layer: int) -> np.ndarray:
        """Mask of the tokens whose confidence behind this layer must be measured, bool [token]."""
        return np.zeros_like(self.skips(state, layer))

    def step(self, state: Any, layer: int, distance: np.ndarray) -> Any:
        """State after this layer; `distance` [token] is NaN where the block did not run."""
        return state

    def fits(self, model: str, vocabulary: int) -> None:
        """Raise ValueError where the policy was fitted for another model, or for another vocabulary."""
        if self.action is not None:
            self.action.fits(model)

    def to_json(self) -> str:
        """Write the policy as JSON text, which `from_json` reads."""
        return json.dumps({"policy": type(self).__name__, **_options(self)}, default=lambda number: number.item())


def _options(holder: Any) -> dict[str, Any]:
    """Options by name, without an action of None; arrays are replaced by their hash."""
    found = {one.name: getattr(holder, one.name) for one in fields(holder)}
    for name, value in found.items():
        if isinstance(value, Arrays):
            found[name] = {"arrays": value.digest}
        elif isinstance(value, Action):
            found[name] = {"action": type(value).__name__, **_options(value)}
    return {name: value for name, value in found.items() if name != "action" or value is not None}


def dense(trace: Trace, sink: int = 0) -> Steps:
    """The tokens of a dense trace; ValueError for a trace of a skipping run or without tokens past the sink."""
    if not len(trace):
        raise ValueError("expected a trace with tokens to fit on, got an empty one; record some")
    if trace.skipped.any():
        raise ValueError(
            f"expected a dense trace to fit on, but in this one {trace.skipped.mean():.1%} of the blocks were skipped; "
            "record one without a policy"
        )
    if dropped := trace.provenance.get("dropped"):
        raise ValueError(
            f"expected a dense trace to fit on, but in this one attention was left out ({dropped}); record one without "
            "a policy"
        )
    steps = Steps.of(trace)
    if not (steps.position >= sink).any():
        raise ValueError(
            f"expected tokens past the attention sink, which is the first {sink} positions of each sequence, but the "
            f"longest has {int(steps.position.max()) + 1}; record longer texts, or give a smaller sink"
        )
    return steps


def always(policy: Policy, start: int = 0, end: int = 0) -> str:
    """End of a legend: ", cold 3+2" for layers that always run, ", sink 0" where it is not the default, the action."""
    told = f", cold {start}+{end}" if start or end else ""
    told += f", sink {policy.sink}" if policy.sink != SINK else ""
    return told + (f", {policy.action.describe()}" if policy.action is not None else "")


def previous_token(distance: np.ndarray, sequence: np.ndarray, carry: dict[int, Any]) -> np.ndarray:
    """The distance of the previous token in each sequence.

    Parameters
    ----------
    distance, sequence
        Distance and sequence of the tokens of this pass, [token], grouped by sequence and in order.
    carry
        Last distance of each sequence before this pass; updated in place.

    Returns
    -------
    numpy.ndarray
        [token]; NaN where a sequence has no previous token.
    """
    before = np.empty_like(distance)
    before[1:] = distance[:-1]
    first = np.flatnonzero(np.append(True, sequence[1:] != sequence[:-1]))[: len(distance)]
    before[first] = [carry.get(number, np.nan) for number in sequence[first].tolist()]
    last = np.append(first[1:], len(distance))[: len(first)] - 1
    carry.update(zip(sequence[last].tolist(), distance[last].tolist(), strict=True))
    return before
