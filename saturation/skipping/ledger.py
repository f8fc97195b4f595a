"""What a skipping run really did."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd
from torch import nn
from transformers import PreTrainedModel

from ..anatomy import Block, stored, weights
from ..policies import Policy, SkipRatios, Steps, skip_ratios
from ..recording import Rows, tokens_of
from .instead import NOTHING, Cost, cost


class Ledger:
    """What `skip` hands out: which blocks were really left out, filled while the model runs.

    Attributes
    ----------
    policy
        The policy that decided.
    probes
        How many distances were measured to decide, over tokens and layers; where one token of a pass probes, those
        of all its tokens that run are measured.
    instead
        By layer what one token costs what runs in place of the block; empty where blocks are skipped.
    """

    def __init__(self, model: PreTrainedModel, blocks: Sequence[Block], policy: Policy) -> None:
        self.model, self.blocks, self.policy = model, blocks, policy
        self.probes = 0
        self.instead: dict[int, Cost] = {}
        self._rows: list[Rows] = []
        self._masks: list[np.ndarray] = []

    def add(self, rows: Rows, skipped: np.ndarray) -> None:
        """Take down one forward pass: its rows and what was skipped, bool [token, layer]."""
        self._rows.append(rows)
        self._masks.append(skipped)
        self.__dict__.pop("_sorted", None)

    @property
    def tokens(self) -> pd.DataFrame:
        """One row per token as in a Trace: sequence, position, phase, token_id, text (empty)."""
        return self._sorted[0]

    @property
    def skipped(self) -> np.ndarray:
        """Which blocks did not run, bool [token, layer]."""
        return self._sorted[1]

    @cached_property
    def _sorted(self) -> tuple[pd.DataFrame, np.ndarray]:
        tokens, order = tokens_of(self._rows, self.model)
        masks = np.concatenate([np.zeros((0, len(self.blocks)), dtype=bool), *self._masks])
        return tokens.iloc[order].reset_index(drop=True), masks[order]

    @property
    def steps(self) -> Steps:
        """The tokens as a policy sees them."""
        return Steps(*(self.tokens[name].to_numpy() for name in ("sequence", "position", "generated", "token_id")))

    @property
    def idle(self) -> bool:
        """Whether the policy could skip at none of the tokens that were read; asks no device for their ids."""
        return not any(self.policy.eligible(rows.steps).any() for rows in self._rows)

    @property
    def passes(self) -> int:
        """Forward passes that were seen."""
        return len(self._rows)

    @property
    def idle_passes(self) -> int:
        """Passes over text that nothing was decoded after, at none of whose tokens the policy could skip.

        Likelihoods are such passes unless `skip` is given their start: a policy that leaves prefill alone leaves them
        dense.
        """
        decoded = [rows.sequence[rows.generated > 0] for rows in self._rows]
        written = np.unique(np.concatenate([np.zeros(0, np.int64), *decoded]))
        return sum(
            not self.policy.eligible(rows.steps).any() and not np.isin(rows.sequence, written).any()
            for rows in self._rows
        )

    @property
    def ratios(self) -> SkipRatios:
        """The three skip ratios: nominal, decode and total."""
        return skip_ratios(self.skipped, self.steps, self.policy, len(self.blocks))

    @property
    def ideal(self) -> float:
        """Speed-up of the decode steps if time were the bytes of weights read: bytes(dense) / bytes(touched).

        A block's weights are read, and not only those of what runs in its place, unless every sequence of the batch
        skips it in that step. Of a mixture of experts those that one token reads count; the sequences of a batch may
        read more. Quantised weights count as stored.
        """
        held = sum(_bytes(module) for block in self.blocks for module in block.modules)
        ffn, instead = self.bytes
        rest = _bytes(self.model) - held - self._untouched()
        steps = [mask for rows, mask in zip(self._rows, self._masks, strict=True) if rows.stepped]
        if not steps:
            return 1.0
        touched = rest * len(steps)
        touched += sum(~mask.all(axis=0) @ ffn + mask.any(axis=0) @ instead for mask in steps)
        return float((rest + ffn.sum()) * len(steps) / touched)

    @property
    def unread(self) -> float:
        """Share of the blocks' bytes that decoded tokens left unread, each reading for itself.

        Of whole blocks that are all alike it is `ratios.decode`; where something runs in their place it is less.
        """
        return self._spared(*self.bytes)

    @property
    def uncomputed(self) -> float:
        """Share of the blocks' FLOPs that decoded tokens left uncomputed: of the products with their matrices."""
        whole, instead = self._costs
        return self._spared(whole[:, 1], instead[:, 1])

    @property
    def bytes(self) -> tuple[np.ndarray, np.ndarray]:
        """Bytes that one token reads of each block, and of what runs in its place, [layer]."""
        whole, instead = self._costs
        return whole[:, 0], instead[:, 0]

    @property
    def _costs(self) -> tuple[np.ndarray, np.ndarray]:
        """Bytes and products that one token costs each block, and what runs in its place, [layer, 2]."""
        whole = np.array([cost(self.model, block) for block in self.blocks])
        return whole, np.array([self.instead.get(block.index, NOTHING) for block in self.blocks])

    def _spared(self, whole: np.ndarray, instead: np.ndarray) -> float:
        decoded = self.skipped[self.steps.decode]  # [token, layer]
        return float((decoded @ (whole - instead)).sum() / max(len(decoded) * whole.sum(), 1))

    def _untouched(self) -> int:
        """Bytes of an input embedding that no head shares: one row of it is read per token."""
        table, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        tied = head is not None and any(one is other for one in weights(head) for other in weights(table))
        return 0 if tied else _bytes(table)

    def __repr__(self) -> str:
        share = f"{self.ratios.decode:.1%} of decoded FFNs skipped"
        return f"Ledger({self.policy.describe()}: {len(self.tokens)} tokens, {share})"


def _bytes(module: nn.Module) -> int:
    return sum(map(stored, weights(module)))
