"""A linear router: predicts the harm of later blocks from the residual stream in front of one early block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ..trace import Harm
from .decided_ahead import BehindLayer
from .fitted_arrays import Arrays
from .harm_fitting import OfHarm, Split, how_many, least, predicted, same_action
from .policy import always

PENALTIES = tuple(float(10.0**power) for power in range(-5, 3))  # times the fitting tokens; features have size 1
_FLOOR = 0.01  # share of a layer's mean harm, added before the logarithm: smaller harm is rounding


@dataclass(frozen=True)
class RoutedFFN(OfHarm, BehindLayer):
    """Skip, at each token, the later blocks of least predicted harm.

    A ridge regression predicts the log harm of every block behind one early block, from the residual stream in front
    of that block, scaled to a root mean square of 1. Every token skips the same number of blocks; no distances are
    measured.

    Parameters
    ----------
    count, model, vocabulary, predicted, decode_only
        As for `TokenFFN`.
    reads
        Layer in front of whose block the stream is read; only later blocks may be skipped.
    weights
        "weight" float [hidden, later layer] and "bias" float [later layer]: predicted log harm, nats.
    penalty
        Ridge penalty, times the number of fitting tokens; chosen on held-out texts.
    """

    count: int
    reads: int
    weights: Arrays
    model: str
    vocabulary: int = 0
    penalty: float = 0.0
    predicted: float | None = None
    decode_only: bool = False

    fitted: ClassVar[str] = "router"

    @property
    def covered(self) -> int:
        """Number of layers of the model: up to `reads`, and those behind it."""
        return self.reads + 1 + self.most

    @property
    def most(self) -> int:
        """Number of layers behind `reads`."""
        return len(self.weights["bias"])

    @cached_property
    def _weight(self) -> np.ndarray:
        """The weight, float64 [hidden, later layer], cached because every decoded token needs it."""
        return self.weights["weight"].astype(np.float64)

    def chosen(self, stream: np.ndarray, layers: int) -> np.ndarray:
        """Mask of the later blocks of least predicted harm, bool [token, layer]."""
        scores = _features(stream) @ self._weight + self.weights["bias"]
        mask = np.zeros((len(stream), layers), dtype=bool)
        mask[:, self.reads + 1 :] = least(scores, self.count)
        return mask

    def describe(self) -> str:
        """A few words for a legend."""
        rule = (
            f"router behind layer {self.reads}, {self.count} of {self.covered} FFNs"
            + ", decode only" * self.decode_only
        )
        return rule + always(self)

    @classmethod
    def fit(
        cls,
        harm: Harm,
        stream: np.ndarray,
        *,
        reads: int,
        ratio: float | None = None,
        count: int | None = None,
        rise: float | None = None,
        hold_out: float = 0.25,
        seed: int = 0,
        **options: Any,
    ) -> RoutedFFN:
        """Fit a router by ridge regression, with a penalty chosen on held-out texts.

        Parameters
        ----------
        harm
            Harm on calibration texts, measured with the action that the policy will take.
        stream
            The residual stream in front of the block of layer `reads`, float [token, hidden], one row per row of harm:
            ``recording.streams(model, tokenizer, texts, reads)``.
        reads
            That layer; a small one leaves many blocks behind it.
        ratio, count, rise, hold_out, seed, options
            As for `TokenFFN.fit`.

        Returns
        -------
        RoutedFFN

        Raises
        ------
        ValueError
            For a stream of other tokens, a layer with none behind it, and as for `TokenFFN.fit`.
        """
        if len(stream) != len(harm) or not 0 <= reads < harm.layers - 1:
            raise ValueError(
                f"expected a row of the stream for each of {len(harm)} tokens, and a layer from 0 to {harm.layers - 2} "
                f"that it is read at, got {len(stream)} rows and layer {reads}; read the same texts with "
                "recording.streams"
            )
        same_action(harm, options.get("action"))
        split = Split.of(harm, hold_out, seed)
        later = harm.kl[:, reads + 1 :].astype(np.float64)  # [token, later layer]
        trials = [_ridge(stream[split.fit], later[split.fit], penalty) for penalty in PENALTIES]
        wrong = [_error(one, stream[split.held], later[split.held]) for one in trials]
        best = int(np.argmin(wrong))
        weight, bias = trials[best]
        scores = _features(stream[split.held]) @ weight + bias

        def costs(number: int) -> float:
            return predicted(later[split.held], least(scores, number))

        number = how_many(harm.layers, later.shape[1], costs, ratio=ratio, count=count, rise=rise)
        weight, bias = _ridge(stream[harm.measured], later[harm.measured], PENALTIES[best])
        return cls(
            count=number,
            reads=reads,
            weights=Arrays({"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}),
            penalty=PENALTIES[best],
            predicted=costs(number),
            **cls.told(harm, options),
        )


def _features(stream: np.ndarray) -> np.ndarray:
    """The stream [token, hidden] scaled to a root mean square of 1, float64: its length says little."""
    stream = stream.astype(np.float64)
    return stream / np.sqrt(np.square(stream).mean(axis=1, keepdims=True) + 1e-12)


def _targets(kl: np.ndarray) -> np.ndarray:
    return np.log(kl + _FLOOR * kl.mean(axis=0) + 1e-12)


def _ridge(stream: np.ndarray, kl: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Weight [hidden, layer] and bias [layer] of log harm; the bias makes the mean harm equal the measured one.

    A mean of logarithms is not the logarithm of a mean (Duan's smearing, JASA 78:605, 1983): layers that rarely have a
    large harm would look harmless.
    """
    x, y = _features(stream), _targets(kl)
    centre, level = x.mean(axis=0), y.mean(axis=0)
    gram = (x - centre).T @ (x - centre) / len(x)
    gram[np.diag_indices_from(gram)] += penalty
    weight = np.linalg.solve(gram, (x - centre).T @ (y - level) / len(x))
    found = (x - centre) @ weight
    bias = np.log(kl.mean(axis=0) + 1e-12) - np.log(np.exp(found).mean(axis=0)) - centre @ weight
    return weight, bias


def _error(found: tuple[np.ndarray, np.ndarray], stream: np.ndarray, kl: np.ndarray) -> float:
    """Squared error of log harm, without the mean level of each layer."""
    wrong = _targets(kl) - _features(stream) @ found[0]
    return float(np.square(wrong - wrong.mean(axis=0)).mean())
