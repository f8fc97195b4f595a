"""Base classes of token-independent policies: random draws, or the same parts of layers for every token."""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import ClassVar, Literal, Self

import numpy as np

from ..trace import Trace
from .decided_ahead import AheadOfPass
from .policy import SINK, Steps, always, dense


@dataclass(frozen=True)
class Drawn(AheadOfPass, abstract=True):
    """A policy that leaves out randomly drawn parts of layers.

    The draw is a function of seed, sequence, position and layer; the options are those of `RandomFFN`.
    """

    ratio: float
    seed: int = 0
    cold_start: int = 0
    cold_end: int = 0
    per: Literal["token", "run"] = "token"
    decode_only: bool = False

    called: ClassVar[str]  # name in a legend
    counted: ClassVar[str]  # what the ratio counts, for error messages

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.ratio < 1 or min(self.cold_start, self.cold_end) < 0:
            raise ValueError(
                f"expected a ratio in [0, 1) and cold regions of at least 0 layers, got {self.ratio}, "
                f"{self.cold_start} and {self.cold_end}; ratio 0.25 skips a quarter of all {self.counted}"
            )
        if self.per not in ("token", "run"):
            raise ValueError(f"expected per to be 'token' or 'run', got {self.per!r}; choose one")

    def check(self, layers: int) -> None:
        """Raise ValueError where more blocks would be skipped than the cold regions leave."""
        allowed = len(self.allowed(layers))
        if self._count(layers) > allowed or not allowed:
            raise ValueError(
                f"expected at least {max(self._count(layers), 1)} layers to choose from, but cold_start="
                f"{self.cold_start} and cold_end={self.cold_end} leave {allowed} of {layers}; make them or the ratio "
                "smaller"
            )

    def allowed(self, layers: int) -> range:
        """Layers between the cold regions."""
        return range(self.cold_start, layers - self.cold_end)

    def skippable(self, layers: int) -> range:
        """Layers between the cold regions."""
        return self.allowed(layers)

    def chosen(self, steps: Steps, layers: int) -> np.ndarray:
        """Mask of the drawn blocks, bool [token, layer]."""
        chosen = np.zeros((len(steps.sequence), layers), dtype=bool)
        allowed = np.array(self.allowed(layers))
        if self.per == "run":
            draw = _noise(self.seed, allowed)[None]  # [1, allowed]
        else:
            draw = _noise(self.seed, steps.sequence[:, None], steps.position[:, None], allowed)  # [token, allowed]
        rank = draw.argsort(axis=1).argsort(axis=1)
        chosen[:, allowed] = rank < self._count(layers)
        return chosen

    def describe(self) -> str:
        """Short label for a legend: the share, and the other options of the draw."""
        rule = f"{self.called}, {100 * self.ratio:.3g}%" + " once" * (self.per == "run")
        rule += ", decode only" * self.decode_only + always(self, self.cold_start, self.cold_end)
        return rule + (f", seed {self.seed}" if self.seed else "")

    def _count(self, layers: int) -> int:
        return round(self.ratio * layers)


@dataclass(frozen=True)
class Fixed(AheadOfPass, abstract=True):
    """A policy that leaves out the same parts of layers at every token.

    Parameters
    ----------
    layers
        Numbers of the layers, from 0.
    decode_only
        True leaves prefill alone; as a baseline it acts on every token.
    """

    layers: tuple[int, ...] = ()
    decode_only: bool = False

    called: ClassVar[str]  # in a legend

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            object.__setattr__(self, "layers", tuple(map(index, self.layers)))
        except TypeError:
            raise ValueError(
                f"expected layers of {type(self).__name__} to be a list of whole numbers, got {self.layers!r}; write "
                "one as (3,)"
            ) from None
        if len(set(self.layers)) < len(self.layers) or min(self.layers, default=0) < 0:
            raise ValueError(f"expected different layer numbers from 0, got {self.layers}; correct them")

    def check(self, layers: int) -> None:
        """Raise ValueError for a layer that the model does not have."""
        if max(self.layers, default=-1) >= layers:
            raise ValueError(
                f"expected layers of a model with {layers}, numbered from 0 to {layers - 1}, got {max(self.layers)}; "
                "leave it out"
            )

    def skippable(self, layers: int) -> tuple[int, ...]:
        """The layers that are left out."""
        return self.layers

    @classmethod
    def measured(cls, trace: Trace) -> np.ndarray:
        """The measure that `fit` minimises: 1 - cosine between input and output of that part, [token, layer].

        Raises
        ------
        ValueError
            For a trace without these numbers.
        """
        return trace.distance

    @classmethod
    def fit(
        cls,
        trace: Trace,
        *,
        ratio: float | None = None,
        count: int | None = None,
        cold_start: int = 0,
        cold_end: int = 0,
        decode_only: bool = False,
        sink: int = SINK,
    ) -> Self:
        """Choose the layers of least mean `measured`, so of highest similarity, on a calibration trace.

        Parameters
        ----------
        trace
            A dense trace; all tokens past the sink count.
        ratio, count
            How many layers, as a share of all or a number. Give one.
        cold_start, cold_end
            Layers at either end that are never chosen.
        decode_only, sink
            As for the policy.

        Returns
        -------
        Fixed
            A policy of the class whose `fit` is called.

        Raises
        ------
        ValueError
            Without exactly one of share and number, for more layers than the cold regions leave, and for a trace that
            cannot be fitted on.
        """
        cold = {"cold_start": cold_start, "cold_end": cold_end}
        layers = _lowest(trace, cls.measured(trace), ratio=ratio, count=count, sink=sink, **cold)
        return cls(layers=layers, decode_only=decode_only, sink=sink)

    def chosen(self, steps: Steps, layers: int) -> np.ndarray:
        """Mask of the layers, the same at every token, bool [token, layer]."""
        return np.tile(np.isin(np.arange(layers), self.layers), (len(steps.sequence), 1))

    def describe(self) -> str:
        """A few words for a legend."""
        named = ", ".join(map(str, sorted(self.layers))) or "none"
        rule = (
            f"{self.called}, layer{'' if len(self.layers) == 1 else 's'} {named}" + ", decode only" * self.decode_only
        )
        return rule + always(self)


def _lowest(
    trace: Trace,
    measure: np.ndarray,
    *,
    ratio: float | None,
    count: int | None,
    cold_start: int,
    cold_end: int,
    sink: int,
) -> tuple[int, ...]:
    """Numbers of the layers of lowest mean measure [token, layer] on a dense trace, past the sink; rising."""
    if (ratio is None) == (count is None):
        raise ValueError(f"expected either ratio= or count=, got {ratio} and {count}; give one of them")
    if not 0 <= (ratio or 0) <= 1 or min(cold_start, cold_end) < 0:
        raise ValueError(
            f"expected a ratio in [0, 1] and cold regions of at least 0 layers, got {ratio}, {cold_start} and "
            f"{cold_end}; 0.25 takes a quarter of all layers"
        )
    past = dense(trace, sink).position >= sink  # [token]
    count = round((ratio or 0) * trace.layers) if count is None else count
    allowed = np.arange(cold_start, trace.layers - cold_end)
    if not 0 <= count <= len(allowed):
        raise ValueError(
            f"expected to choose between 0 and {len(allowed)} layers, those that the cold regions leave of "
            f"{trace.layers}, got {count}; choose fewer"
        )
    mean = measure[past][:, allowed].astype(np.float64).mean(axis=0)  # [allowed]
    return tuple(sorted(allowed[np.argsort(mean, kind="stable")[:count]].tolist()))


def _noise(seed: int, *counters: np.ndarray) -> np.ndarray:
    """Uniform 64-bit noise of the counters, broadcast together (splitmix64's finaliser, Steele et al. 2014)."""
    state = np.asarray(seed % (1 << 64), dtype=np.uint64)
    for counter in counters:
        state = _mixed(state ^ _mixed(np.asarray(counter).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)))
    return state


def _mixed(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
