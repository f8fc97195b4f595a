"""A token table: for each token of the vocabulary, the mean harm of each block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ..trace import Harm
from .decided_ahead import AheadOfPass
from .fitted_arrays import Arrays
from .harm_fitting import OfHarm, Split, how_many, least, predicted, same_action
from .policy import Steps, always

PSEUDO = 4.0  # pseudo-count of the layer's mean in each token's mean: half of the weight at four occurrences
_SEEN = 1 / 3  # least share of held-out tokens whose ids must be in the table


@dataclass(frozen=True)
class TokenFFN(OfHarm, AheadOfPass):
    """Skip, at each token, the blocks with the least mean harm at this token id in calibration text.

    The decision is known before the pass, at the cost of reading one row of a table. Every token skips the same number
    of blocks, since skipped blocks harm more together than singly, and a token that loses too many of them breaks.

    Parameters
    ----------
    count
        Blocks that each token skips.
    table
        "ids" int [row], rising; "harm" float [row, layer], nats; "mean" float [layer], for tokens not in the table.
    model
        Name of the model that the harm was measured on.
    vocabulary
        Vocabulary size of that model; 0 where unknown.
    predicted
        Harm on held-out texts, summed over the skipped blocks, nats per token; None if unknown.
    decode_only
        True leaves prefill alone.
    """

    count: int
    table: Arrays
    model: str
    vocabulary: int = 0
    predicted: float | None = None
    decode_only: bool = False

    reads_tokens: ClassVar[bool] = True
    fitted: ClassVar[str] = "table"

    @property
    def covered(self) -> int:
        """Number of layers of the table."""
        return len(self.table["mean"])

    @property
    def most(self) -> int:
        """Number of blocks that may be skipped: all layers."""
        return self.covered

    def skippable(self, layers: int) -> range:
        """All layers; the table decides."""
        return range(layers if self.count else 0)

    def chosen(self, steps: Steps, layers: int) -> np.ndarray:
        """Mask of the blocks with the least harm in the table, bool [token, layer]."""
        if steps.token_id is None:
            raise ValueError("expected steps with token ids, which a table of tokens reads, got none; give token_id=")
        return self._masks[_rows(self.table["ids"], steps.token_id)]

    @cached_property
    def _masks(self) -> np.ndarray:
        """Skip mask for each row of the table, and in the last row for tokens not in it, bool [row, layer]."""
        return least(np.vstack([self.table["harm"], self.table["mean"]]), self.count)

    def describe(self) -> str:
        """A few words for a legend."""
        rule = f"token table, {self.count} of {self.covered} FFNs" + ", decode only" * self.decode_only
        return rule + always(self)

    @classmethod
    def fit(
        cls,
        harm: Harm,
        *,
        ratio: float | None = None,
        count: int | None = None,
        rise: float | None = None,
        pseudo: float = PSEUDO,
        hold_out: float = 0.25,
        seed: int = 0,
        **options: Any,
    ) -> TokenFFN:
        """Fit a table of mean harm per token and layer, each mean shrunk towards that of its layer.

        Parameters
        ----------
        harm
            Harm on calibration texts, measured with the action that the policy will take.
        ratio, count, rise
            The target: a share of all blocks, a number of them, or the largest harm per token predicted on held-out
            texts, in nats. Give one.
        pseudo
            Pseudo-count of the layer's mean in each token's mean.
        hold_out
            Share of the texts held out to predict the harm; the final table uses all texts.
        seed
            Seed of the draw of these texts.
        options
            `decode_only`, `sink` (by default that of the harm) and `action`.

        Returns
        -------
        TokenFFN

        Raises
        ------
        ValueError
            Without exactly one target, for fewer than two texts, or texts that are too short for a table.
        """
        same_action(harm, options.get("action"))
        split = Split.of(harm, hold_out, seed)
        ids, held = harm.tokens["token_id"].to_numpy(), harm.kl[split.held].astype(np.float64)
        trial = _table(ids[split.fit], harm.kl[split.fit], pseudo)
        known = float(np.isin(ids[split.held], trial["ids"]).mean())
        if known < _SEEN:
            raise ValueError(
                f"expected calibration texts long enough for a table of tokens, but those fitted on have "
                f"{len(trial['ids'])} different ids, and only {known:.0%} of the tokens held out are among them; "
                "measure harm on more text"
            )
        scores = np.vstack([trial["harm"], trial["mean"]])[_rows(trial["ids"], ids[split.held])]  # [token, layer]

        def costs(number: int) -> float:
            return predicted(held, least(scores, number))

        number = how_many(harm.layers, harm.layers, costs, ratio=ratio, count=count, rise=rise)
        return cls(
            count=number,
            table=Arrays(_table(ids[harm.measured], harm.kl[harm.measured], pseudo)),
            predicted=costs(number),
            **cls.told(harm, options),
        )


def _table(ids: np.ndarray, kl: np.ndarray, pseudo: float) -> Mapping[str, np.ndarray]:
    """Means of kl [token, layer] by token id, shrunk to the mean of each layer."""
    known, row, counts = np.unique(ids, return_inverse=True, return_counts=True)
    mean = kl.mean(axis=0, dtype=np.float64)  # [layer]
    sums = np.zeros((len(known), kl.shape[1]))
    np.add.at(sums, row, kl)
    shrunk = (sums + pseudo * mean) / (counts[:, None] + pseudo)
    return {"ids": known.astype(np.int64), "harm": shrunk.astype(np.float32), "mean": mean.astype(np.float32)}


def _rows(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Row of each id in the table, [token]; the row after the last one for an unknown id."""
    place = np.searchsorted(known, ids).clip(max=len(known) - 1)
    return np.where(known[place] == ids, place, len(known))
