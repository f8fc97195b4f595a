"""Fitting to harm: held-out texts, the predicted harm of a choice of blocks, and how many blocks to skip."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..trace import Harm
from .policy import Policy

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Split:
    """Masks of the fitting tokens and of the held-out tokens of other texts, bool [token]; neither has the sink."""

    fit: np.ndarray
    held: np.ndarray

    @classmethod
    def of(cls, harm: Harm, share: float, seed: int) -> Split:
        """Hold out a share of the texts, at least one; ValueError where there is only one."""
        sequence = harm.tokens["sequence"].to_numpy()
        texts = np.unique(sequence[harm.measured])
        if not 0 < share < 1:
            raise ValueError(f"expected a share of texts to hold out, between 0 and 1, got {share}; 0.25 is usual")
        if len(texts) < 2:
            raise ValueError(
                f"expected harm of at least 2 texts, some to fit on and some to judge by, got {len(texts)}; measure it "
                "on more texts"
            )
        count = min(max(round(share * len(texts)), 1), len(texts) - 1)
        held = np.isin(sequence, np.random.default_rng(seed).permutation(texts)[:count]) & harm.measured
        return cls(harm.measured & ~held, held)


def predicted(kl: np.ndarray, mask: np.ndarray) -> float:
    """Mean over tokens of the summed harm of the blocks in a mask, nats; both arguments are [token, layer].

    Leaving out several blocks together harms more than the sum, so the loss may rise more.
    """
    return float(np.where(mask, kl, 0).sum(axis=1).mean())


def how_many(
    layers: int, most: int, costs: Callable[[int], float], *, ratio: float | None, count: int | None, rise: float | None
) -> int:
    """The number of blocks to skip at each token, from one of three targets.

    Parameters
    ----------
    layers, most
        Number of layers of the model, and how many of them may be skipped.
    costs
        Function from a number of blocks to the harm predicted on held-out texts.
    ratio, count, rise
        A share of all blocks, a number of blocks, or the largest predicted harm, in nats per token.
    """
    targets: dict[str, Any] = {"ratio": ratio, "count": count, "rise": rise}
    if sum(one is not None for one in targets.values()) != 1:
        raise ValueError(f"expected one of ratio=, count= and rise= as the target, got {targets}; give one of them")
    if rise is None:
        asked = round(ratio * layers) if ratio is not None else count
        if (ratio is not None and not 0 <= ratio < 1) or not 0 <= asked <= most:  # type: ignore[operator]
            raise ValueError(
                f"expected to skip between 0 and {most} of {layers} blocks of each token, got {asked}; choose fewer"
            )
        return asked  # type: ignore[return-value]
    fitting = [number for number in range(1, most + 1) if costs(number) <= rise]
    if not fitting:
        _LOG.warning(
            "no block can be skipped for a predicted rise of %g nats a token: one of each token's is predicted to cost "
            "%.3g already; the policy runs all",
            rise,
            costs(1),
        )
    return max(fitting, default=0)


def least(scores: np.ndarray, count: int) -> np.ndarray:
    """Mask of the `count` blocks of lowest score in each row, bool [row, layer]."""
    chosen = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(chosen, np.argsort(scores, axis=1, kind="stable")[:, :count], True, axis=1)
    return chosen


def same_action(harm: Any, action: Any) -> None:
    """Raise ValueError where harm was measured with another action than that of the policy to fit."""
    asked, measured = (None if action is None else action.describe()), harm.provenance.get("action")
    if asked != measured:
        raise ValueError(
            f"expected harm of what the policy does with a block ({asked or 'leave it out'}), got harm of another "
            f"action ({measured or 'leave it out'}); give fit the same action= as saturation.harm"
        )


class OfHarm(Policy, abstract=True):
    """Base class of policies fitted to harm; they fit only the model that the harm was measured on.

    Attributes
    ----------
    count
        Blocks that each token skips.
    model, vocabulary
        Name of that model, and the size of its vocabulary; 0 where unknown.
    """

    count: int
    model: str
    vocabulary: int
    fitted: ClassVar[str]  # what was fitted, for error messages: "table"

    @property
    @abstractmethod
    def covered(self) -> int:
        """Number of layers of the model that the policy was fitted on."""

    @property
    @abstractmethod
    def most(self) -> int:
        """Largest number of blocks that a token can skip."""

    def check(self, layers: int) -> None:
        """Raise ValueError where the policy is of a model with another number of layers, or `count` is out of range."""
        if self.covered != layers:
            raise ValueError(
                f"expected a {self.fitted} of a model with {layers} layers, got one of {self.model!r} with "
                f"{self.covered}; fit it on harm of this model"
            )
        if not 0 <= self.count <= self.most:
            raise ValueError(
                f"expected to skip between 0 and {self.most} blocks of a token, got {self.count}; correct count"
            )

    def fits(self, model: str, vocabulary: int) -> None:
        """Raise ValueError where the policy was fitted on another model or vocabulary."""
        super().fits(model, vocabulary)
        kind = type(self).__name__
        if self.model != model:
            raise ValueError(
                f"expected a {kind} that was fitted on {model!r}, got one of {self.model!r}; fit it on harm of this "
                "model"
            )
        if self.vocabulary not in (0, vocabulary):
            raise ValueError(
                f"expected a {kind} of a vocabulary of {vocabulary:,} tokens, got one of {self.vocabulary:,}; fit it "
                "on harm of this model"
            )

    @staticmethod
    def told(harm: Harm, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options that a fitted policy takes from its harm, unless they are given."""
        known = harm.provenance
        own = {"model": harm.model, "vocabulary": int(known.get("vocabulary", 0)), "sink": int(known.get("sink", 0))}
        return own | dict(options)
