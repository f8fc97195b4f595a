"""A linear router: the residual stream in front of one early block tells which later blocks matter least."""

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

PENALTIES = tuple(float(10.0**power) for power in range(-5, 3))  # times the tokens fitted on; features are of size 1
_FLOOR = 0.01  # of a layer's mean harm, added before the logarithm: smaller ones are rounding


@dataclass(frozen=True)
class RoutedFFN(OfHarm, BehindLayer):
    """Skip, at each token, the later blocks of least predicted harm.

    Ridge regression from the residual stream in front of one early block, scaled to unit root mean square, to the log
    harm of every block behind it. Every token skips as many blocks; nothing is measured on the way.

    Parameters
    ----------
    count
        Blocks that each token skips.
    reads
        Layer in front of whose block the stream is read; only blocks behind it may be skipped.
    weights
        "weight" float [hidden, later layer] and "bias" float [later layer]: predicted log harm, nats.
    model
        Name of the model that it was fitted on.
    vocabulary
        Tokens of that model; 0 where that is not known.
    penalty
        Of the ridge, times the tokens fitted on; chosen on texts held out.
    predicted
        Harm on texts that the fit held out, summed over the blocks that are skipped, nats per token; None if unknown.
    decode_only
        True leaves prefill alone.
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
        """Layers up to the one that is read, and those behind it."""
        return self.reads + 1 + self.most

    @property
    def most(self) -> int:
        """The layers behind the one that is read."""
        return len(self.weights["bias"])

    @cached_property
    def _weight(self) -> np.ndarray:
        """Float64 [hidden, later layer]; a decoded token waits for it."""
        return self.weights["weight"].astype(np.float64)

    def chosen(self, stream: np.ndarray, layers: int) -> np.ndarray:
        """The blocks of least predicted harm behind the one that is read, bool [token, layer]."""
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
        """A router by ridge regression, whose penalty is chosen on texts held out.

        Parameters
        ----------
        harm
            Of calibration texts, for the action that the policy shall take.
        stream
            What the block of layer `reads` reads, float [token, hidden], a row beside each of the harm's:
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
    """The stream [token, hidden] at a root mean square of 1, float64: its length grows with depth, and says little."""
    stream = stream.astype(np.float64)
    return stream / np.sqrt(np.square(stream).mean(axis=1, keepdims=True) + 1e-12)


def _targets(kl: np.ndarray) -> np.ndarray:
    return np.log(kl + _FLOOR * kl.mean(axis=0) + 1e-12)


def _ridge(stream: np.ndarray, kl: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Weight [hidden, layer] and bias [layer] of log harm, the bias such that the mean harm is that measured.

    A mean of logarithms is not the logarithm of a mean (Duan's smearing, JASA 78:605, 1983): layers whose harm is now
    and then large would look harmless.
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
    """Squared error of log harm, the level of each layer aside."""
    wrong = _targets(kl) - _features(stream) @ found[0]
    return float(np.square(wrong - wrong.mean(axis=0)).mean())
