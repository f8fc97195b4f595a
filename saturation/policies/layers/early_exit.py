"""Early exit: a token skips all layers behind the first one whose early logits are confident enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ..policy import CONFIDENCE, Steps, always
from .layer_policy import BeyondFFN


class _State(NamedTuple):
    limit: np.ndarray  # confidence from which a token exits, [token]; infinite where it may not
    left: np.ndarray  # tokens that have exited, bool [token]
    last: int  # the last layer, behind which nothing can be left out


@dataclass(frozen=True)
class EarlyExit(BeyondFFN):
    """A token stops at the first layer whose early prediction is confident (CALM, Schuster et al. 2022).

    With CALM's softmax measure and state copying (arXiv 2207.07061). Behind each layer the model's own last norm
    and output embedding give early logits. Where the difference of the two largest probabilities reaches a limit,
    the token exits: later layers do not change its residual stream, and compute its keys and values from the stream
    as it is. The limit of generated token n is
    0.9 threshold + 0.1 threshold exp(-decay n / length).

    Parameters
    ----------
    threshold
        lambda of the paper, from 0 to 1.
    first
        Layers at the start that always run.
    decay, length
        tau and N of the paper: how fast the limit falls, and over how many generated tokens. With decay 0 the limit is
        the threshold.
    decode_only
        False lets prefill tokens exit too, with the limit of token 0.
    """

    threshold: float
    first: int = 1
    decay: float = 0.0
    length: int = 1
    decode_only: bool = True

    measures: ClassVar[str] = CONFIDENCE

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.threshold <= 1 or not self.decay >= 0 or min(self.first, self.length) < 1:
            raise ValueError(
                "expected a threshold in [0, 1], decay from 0, and first and length from 1, got "
                f"{self.threshold}, {self.decay}, {self.first} and {self.length}; correct them"
            )

    def check(self, layers: int) -> None:
        """Raise ValueError where all layers always run."""
        if self.first >= layers:
            raise ValueError(
                f"expected layers to leave out, but first={self.first} lets all {layers} run; make it smaller"
            )

    def skippable(self, layers: int) -> range:
        """The layers behind those that always run."""
        return range(self.first, layers)

    def droppable(self, layers: int) -> range:
        """The same."""
        return self.skippable(layers)

    def acts_on(self, steps: Steps) -> np.ndarray:
        """Mask of the decoded tokens, or of all, bool [token]."""
        return steps.decode if self.decode_only else np.ones(len(steps.sequence), dtype=bool)

    def limits(self, generated: np.ndarray) -> np.ndarray:
        """Confidence from which a generated token exits, [token]."""
        falling = np.exp(-self.decay * generated / self.length) if self.decay else np.ones(len(generated))
        return self.threshold * (0.9 + 0.1 * falling)

    def start(self, steps: Steps, layers: int) -> _State:
        """State before the first layer."""
        limit = np.where(self.eligible(steps), self.limits(steps.generated), np.inf)
        return _State(limit, np.zeros(len(limit), dtype=bool), layers - 1)

    def skips(self, state: _State, layer: int) -> np.ndarray:
        """Whether the token exited before this layer, bool [token]."""
        return state.left

    def drops(self, state: _State, layer: int) -> np.ndarray:
        """The same."""
        return state.left

    def asks(self, state: _State, layer: int) -> np.ndarray:
        """Mask of the tokens whose confidence behind this layer must be measured, bool [token]."""
        within = self.first - 1 <= layer < state.last
        return np.isfinite(state.limit) & ~state.left if within else np.zeros(len(state.left), dtype=bool)

    def step(self, state: _State, layer: int, distance: np.ndarray) -> _State:
        """State behind this layer; `distance` holds the confidence there, [token], NaN where it was not measured."""
        left = state.left | (self.asks(state, layer) & (distance >= state.limit))
        return state._replace(left=left)

    def describe(self) -> str:
        """A few words for a legend."""
        rule = f"early exit, confidence {self.threshold:g}" + (f", first {self.first}" if self.first > 1 else "")
        rule += f", decay {self.decay:g} over {self.length}" if self.decay else ""
        return rule + ", prefill too" * (not self.decode_only) + always(self)
