"""The ledger: a record of what a skipping run did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

import numpy as np
import pandas as pd
from torch import nn
from transformers import PreTrainedModel

from ..anatomy import Attention, Block, Reading, stored, weights
from ..policies import Policy, SkipRatios, Steps, skip_ratios
from ..recording import Rows, tokens_of
from .replacement import NOTHING, Cost, cost


class Ledger:
    """The record that `skip` yields: which blocks were skipped, filled while the model runs.

    Attributes
    ----------
    policy
        The policy that decided.
    probes
        Number of distances measured to decide, over tokens and layers; where one token of a pass probes, the distances
        of all its running tokens are measured. For early exit, the number of confidences.
    instead
        Cost per token of what runs in place of the block, by layer; empty where blocks are skipped.
    attention
        The attention that the policy may drop, by layer; empty for a policy of feed-forward blocks only.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        blocks: Sequence[Block],
        policy: Policy,
        attention: Mapping[int, Attention] = MappingProxyType({}),
        reading: Reading | None = None,
    ) -> None:
        self.model, self.blocks, self.policy, self.attention = model, blocks, policy, attention
        self._reading = reading
        self.probes = 0
        self.instead: dict[int, Cost] = {}
        self._rows: list[Rows] = []
        self._masks: list[np.ndarray] = []
        self._drops: list[np.ndarray] = []
        self._early: list[int] = []

    def add(self, rows: Rows, skipped: np.ndarray, dropped: np.ndarray | None = None, early: int = 0) -> None:
        """Record one pass: its rows, the skip mask and the mask of dropped attention, bool [token, layer] each.

        `early` is the number of layers behind which early logits were computed.
        """
        self._early.append(early)
        self._rows.append(rows)
        self._masks.append(skipped)
        self._drops.append(np.zeros_like(skipped) if dropped is None else dropped)
        self.__dict__.pop("_sorted", None)

    @property
    def tokens(self) -> pd.DataFrame:
        """One row per token as in a Trace: sequence, position, phase, token_id, text (empty)."""
        return self._sorted[0]

    @property
    def skipped(self) -> np.ndarray:
        """Mask of the blocks that did not run, bool [token, layer]."""
        return self._sorted[1]

    @property
    def dropped(self) -> np.ndarray:
        """Mask of the attention that only stored keys and values, bool [token, layer]."""
        return self._sorted[2]

    @cached_property
    def _sorted(self) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
        tokens, order = tokens_of(self._rows, self.model)
        none = np.zeros((0, len(self.blocks)), dtype=bool)
        skipped, dropped = (np.concatenate([none, *masks])[order] for masks in (self._masks, self._drops))
        return tokens.iloc[order].reset_index(drop=True), skipped, dropped

    @property
    def steps(self) -> Steps:
        """The tokens for a policy."""
        return Steps(*(self.tokens[name].to_numpy() for name in ("sequence", "position", "generated", "token_id")))

    @property
    def idle(self) -> bool:
        """Whether the policy could not skip at any token; needs no ids from a device."""
        return not any(self.policy.eligible(rows.steps).any() for rows in self._rows)

    @property
    def passes(self) -> int:
        """Number of forward passes."""
        return len(self._rows)

    @property
    def idle_passes(self) -> int:
        """Number of passes over given text, with no decoding after, in which the policy could not skip.

        Likelihoods are such passes unless `skip` gets their start: a policy that leaves prefill alone runs them dense.
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
        """Ideal speed-up of decode, if time were the bytes of weights read: bytes(dense) / bytes(touched).

        A step reads a sublayer's weights unless every sequence of the batch leaves it out; else only what runs in its
        place (the action of a block, keys and values of attention). A mixture of experts counts the experts of one
        token; the sequences of a batch may read more. Quantised weights count as stored. Each computation of early
        logits reads the output embedding once more.
        """
        held = sum(_bytes(module) for block in self.blocks for module in block.modules)
        ffn, instead, attention, keys = self._costs[:, :, 0]
        rest = _bytes(self.model) - held - self._untouched()
        passes = zip(self._rows, self._masks, self._drops, self._early, strict=True)
        steps = [one[1:] for one in passes if one[0].stepped]
        if not steps:
            return 1.0
        touched = rest * len(steps)
        touched += sum(~mask.all(axis=0) @ ffn + mask.any(axis=0) @ instead for mask, *_ in steps)
        touched -= sum(drop.all(axis=0) @ (attention - keys) for _, drop, _ in steps)
        touched += sum(map(_bytes, self._reading.modules if self._reading else ())) * sum(early for *_, early in steps)
        return float((rest + ffn.sum()) * len(steps) / touched)

    @property
    def unread(self) -> float:
        """Share of the feed-forward blocks' bytes that decoded tokens did not read, counted per token.

        Where blocks of equal size are skipped it equals `ratios.decode`; where an action runs it is less.
        """
        return self._spared(*self._costs[:2, :, 0])

    @property
    def uncomputed(self) -> float:
        """Share of the FLOPs in the blocks' matrix products that decoded tokens did not compute."""
        return self._spared(*self._costs[:2, :, 1])

    @property
    def unread_layers(self) -> float:
        """Share of the bytes of all decoder layers that decoded tokens did not read, counted per token.

        Compares policies of blocks, of attention and of whole layers. The weights of keys and values are always read,
        with those of the queries where one matrix gives all three.
        """
        return self._share_of_layers(0)

    @property
    def undone(self) -> float:
        """Share of the multiplications with weights of all decoder layers that decoded tokens did not compute.

        The products of attention with keys and values of earlier tokens, which grow with the text, do not count.
        """
        return self._share_of_layers(1)

    @property
    def bytes(self) -> tuple[np.ndarray, np.ndarray]:
        """Bytes that one token reads from each block, and from what runs in its place, [layer]."""
        whole, instead = self._costs[:2, :, 0]
        return whole, instead

    @property
    def _costs(self) -> np.ndarray:
        """Bytes and products that one token costs, [part, layer, 2].

        The parts are the block, what runs in its place, the attention that may be dropped, and its keys and values.
        """
        found = [self.attention.get(block.index) for block in self.blocks]
        return np.array(
            [
                [cost(self.model, block.modules) for block in self.blocks],
                [self.instead.get(block.index, NOTHING) for block in self.blocks],
                [cost(self.model, [one.module]) if one else NOTHING for one in found],
                [cost(self.model, one.keys) if one else NOTHING for one in found],
            ]
        )

    def _spared(self, whole: np.ndarray, instead: np.ndarray) -> float:
        decoded = self.skipped[self.steps.decode]  # [token, layer]
        return float((decoded @ (whole - instead)).sum() / max(len(decoded) * whole.sum(), 1))

    def _share_of_layers(self, unit: int) -> float:
        ffn, instead, attention, keys = self._costs[:, :, unit]
        decode = self.steps.decode
        left = self.skipped[decode] @ (ffn - instead) + self.dropped[decode] @ (attention - keys)  # [token]
        layers = sum(cost(self.model, [block.layer])[unit] for block in self.blocks)
        return float(left.sum() / max(len(left) * layers, 1))

    def _untouched(self) -> int:
        """Bytes of an input embedding that is not tied to the head: a token reads one row of it."""
        table, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        tied = head is not None and any(one is other for one in weights(head) for other in weights(table))
        return 0 if tied else _bytes(table)

    def __repr__(self) -> str:
        share = f"{self.ratios.decode:.1%} of decoded FFNs skipped"
        return f"Ledger({self.policy.describe()}: {len(self.tokens)} tokens, {share})"


def _bytes(module: nn.Module) -> int:
    return sum(map(stored, weights(module)))
