"""What a skipping run really did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

import numpy as np
import pandas as pd
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..anatomy import Attention, Block, Reading, stored, weights
from ..policies import Policy, SkipRatios, Steps, skip_ratios
from ..recording import Rows, tokens_of


class Ledger:
    """What `skip` hands out: which blocks were really left out, filled while the model runs.

    Attributes
    ----------
    policy
        The policy that decided.
    probes
        How many distances were measured to decide, over tokens and layers; where one token of a pass probes, those
        of all its tokens that run are measured. Of early exit, how many confidences.
    narrow
        By layer the bytes that a narrow block reads in place of the whole one; empty where blocks are skipped.
    attention
        By layer the attention that the policy may drop; empty for one of feed-forward blocks alone.
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
        self.narrow: dict[int, float] = {}
        self._rows: list[Rows] = []
        self._masks: list[np.ndarray] = []
        self._drops: list[np.ndarray] = []
        self._early: list[int] = []

    def add(self, rows: Rows, skipped: np.ndarray, dropped: np.ndarray | None = None, early: int = 0) -> None:
        """Take down one pass: its rows, what was skipped, whose attention was dropped, bool [token, layer] each.

        And behind how many layers early logits were made.
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
        """Which blocks did not run, bool [token, layer]."""
        return self._sorted[1]

    @property
    def dropped(self) -> np.ndarray:
        """Whose attention gave its keys and values alone, bool [token, layer]."""
        return self._sorted[2]

    @cached_property
    def _sorted(self) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
        tokens, order = tokens_of(self._rows, self.model)
        none = np.zeros((0, len(self.blocks)), dtype=bool)
        skipped, dropped = (np.concatenate([none, *masks])[order] for masks in (self._masks, self._drops))
        return tokens.iloc[order].reset_index(drop=True), skipped, dropped

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

        A part's weights are read, and not only those of what stands in for it (a narrow copy of a block, the keys and
        values of attention), unless every sequence of the batch leaves it out in that step. Of a mixture of experts
        those that one token reads count; the sequences of a batch may read more. Quantised weights count as stored.
        Each time that early logits are made, the output embedding is read once more.
        """
        held = sum(_bytes(module) for block in self.blocks for module in block.modules)
        ffn, narrow, attention, keys = self._weighed(stored)
        rest = _bytes(self.model) - held - self._untouched()
        passes = zip(self._rows, self._masks, self._drops, self._early, strict=True)
        steps = [one[1:] for one in passes if one[0].stepped]
        if not steps:
            return 1.0
        touched = rest * len(steps)
        touched += sum(~mask.all(axis=0) @ ffn + mask.any(axis=0) @ narrow for mask, *_ in steps)
        touched -= sum(drop.all(axis=0) @ (attention - keys) for _, drop, _ in steps)
        touched += sum(map(_bytes, self._reading.modules if self._reading else ())) * sum(early for *_, early in steps)
        return float((rest + ffn.sum()) * len(steps) / touched)

    @property
    def unread(self) -> float:
        """Share of the feed-forward blocks' bytes that decoded tokens left unread, each reading for itself.

        Of whole blocks that are all alike it is `ratios.decode`; of narrow ones it is less.
        """
        (ffn, narrow, *_), decoded = self._weighed(stored), self.skipped[self.steps.decode]  # [token, layer]
        return float((decoded @ (ffn - narrow)).sum() / max(len(decoded) * ffn.sum(), 1))

    @property
    def unread_layers(self) -> float:
        """Share of the bytes of all decoder layers that decoded tokens left unread, each reading for itself.

        Policies of blocks, of attention and of whole layers compare by it. The weights that keys and values are made
        by are read nevertheless, with those of the queries where one matrix gives all three.
        """
        return self._share_of_layers(stored)

    @property
    def undone(self) -> float:
        """Share of the multiplications with weights of all decoder layers that decoded tokens did without.

        Those of attention with the keys and values of the tokens before, which grow with the text, do not count.
        """
        return self._share_of_layers(_entries)

    def _share_of_layers(self, weigh: Callable[[Tensor], float]) -> float:
        ffn, narrow, attention, keys = self._weighed(weigh)
        decode = self.steps.decode
        left = self.skipped[decode] @ (ffn - narrow) + self.dropped[decode] @ (attention - keys)  # [token]
        other = sum(
            _read(self.model, [block.layer], weigh) - _read(self.model, block.modules, weigh) for block in self.blocks
        )
        return float(left.sum() / max(len(left) * (other + ffn.sum()), 1))

    def _weighed(self, weigh: Callable[[Tensor], float]) -> tuple[np.ndarray, ...]:
        """What a token reads of each block, of what runs in its place, of each attention, and for its keys and values.

        [layer] each; of attention that is never dropped the last two are 0.
        """
        ffn = np.array([_read(self.model, block.modules, weigh) for block in self.blocks])
        share = np.array([self.narrow.get(block.index, 0.0) / bytes_read(self.model, block) for block in self.blocks])
        found = [self.attention.get(block.index) for block in self.blocks]
        whole = np.array([_read(self.model, [one.module], weigh) if one else 0.0 for one in found])
        keys = np.array([_read(self.model, one.keys, weigh) if one else 0.0 for one in found])
        return ffn, ffn * share, whole, keys

    def _untouched(self) -> int:
        """Bytes of an input embedding that no head shares: one row of it is read per token."""
        table, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        tied = head is not None and any(one is other for one in weights(head) for other in weights(table))
        return 0 if tied else _bytes(table)

    def __repr__(self) -> str:
        share = f"{self.ratios.decode:.1%} of decoded FFNs skipped"
        return f"Ledger({self.policy.describe()}: {len(self.tokens)} tokens, {share})"


def bytes_read(model: PreTrainedModel, block: Block) -> float:
    """Bytes of a block's weights that one token reads: of its experts, which are stacked, as many as it is sent to."""
    return _read(model, block.modules, stored)


def _read(model: PreTrainedModel, modules: Iterable[nn.Module], weigh: Callable[[Tensor], float]) -> float:
    """What the weights weigh that one token reads."""
    config = model.config.get_text_config()
    given = (getattr(config, name, None) for name in ("num_experts_per_tok", "moe_topk", "moe_top_k", "top_k_experts"))
    chosen = next((number for number in given if isinstance(number, int)), 0)
    read = 0.0
    for tensor in (tensor for module in modules for tensor in weights(module)):
        share = min(1, chosen / len(tensor)) if chosen and tensor.ndim == 3 else 1  # [expert, out, in]
        read += weigh(tensor) * share
    return read


def _entries(tensor: Tensor) -> int:
    """Multiplications of one token with a weight: the entries of a matrix."""
    return tensor.numel() if tensor.ndim > 1 else 0


def _bytes(module: nn.Module) -> int:
    return sum(map(stored, weights(module)))
