"""A skipping session: each feed-forward block of a model asks the policy which tokens to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..anatomy import Attention, Block, Reading, collapsed, find_blocks, find_reading, first, recomputing, running
from ..patching import Hooks, Scope
from ..policies import CONFIDENCE, LAYERWISE, BehindLayer, Narrow, Policy
from ..recording import Recorder, Rows, Stream, by_name, called, listeners, not_run
from .attention import Attending
from .causal import PreviousDistances
from .ledger import Ledger
from .narrow_copies import copies
from .replacement import Replacement
from .stand_in_modules import stand_ins
from .token_subset import (
    Places,
    Sums,
    block_sums,
    confidence,
    distances,
    run_some,
    seeing_naive,
    spread,
    tokens_at,
    without_residual,
)


class Session:
    """One run of `skip`: the token stream, the policy's state in the current pass, and the ledger."""

    def __init__(self, model: PreTrainedModel, policy: Policy, start: int | Sequence[int] | None) -> None:
        if not isinstance(policy, Policy):
            raise ValueError(
                f"expected a policy such as FFNSkip(0.999), got {policy!r}; make one, or read one with "
                "policies.from_json"
            )
        self.policy, self.scope = policy, Scope()
        self.blocks = find_blocks(model)
        self.model, added = running(model)
        suited(self.model, len(self.blocks), policy)
        acting = _acting(policy, len(self.blocks))
        self._acting = self.blocks[min(acting) : max(acting) + 1]  # the other blocks are not patched
        self._attending = Attending(self.model, self.blocks, policy, self.scope)
        self._reading = find_reading(self.model) if policy.measures == CONFIDENCE else None
        self.ledger = Ledger(self.model, self.blocks, policy, self._attending.found, self._reading)
        self._stream = Stream(start, added)
        self.instead: dict[int, Replacement] = {}  # replacements of blocks, by layer
        self._before = PreviousDistances(policy, [block.index for block in self._acting])
        self._foresees = policy.causal and not self._attending.found and self._reading is None
        self._rows: Rows | None = None
        self._recorders: list[Recorder] = []
        self._shown: list[Recorder] = []  # recorders that record more than the FFN
        self._ran: set[int] = set()  # layers whose FFN was reached in the current pass
        self._pending: dict[int, Tensor] = {}  # parallel blocks: the FFN's output until the layer ends

    def register(self, hooks: Hooks) -> None:
        """Register the hooks that open and close each pass, and those that parallel blocks need."""
        hooks.before(self.model, self._begin)
        for block in self._acting:
            if block.parallel:
                hooks.after(block.layer, self._leaving(block))
        if self._reading is not None:
            for block in self.blocks:
                hooks.after(block.layer, partial(self._behind, block, self._reading))
        hooks.after(self.model, self._end)

    def prepare(self) -> None:
        """Make the replacements of blocks."""
        action, layers = self.policy.action, self.policy.skippable(len(self.blocks))
        if action is None or action.skips or not layers:
            return
        if isinstance(action, Narrow):
            self.instead.update(copies(self.model, action, layers))
        else:
            self.instead.update(stand_ins(self.model, self.blocks, action, layers))  # type: ignore[arg-type]
        self.ledger.instead = {layer: one.cost(self.model) for layer, one in self.instead.items()}

    def forwards(self) -> dict[nn.Module, Callable[..., Any]]:
        """The forwards that replace those of the blocks' modules."""
        each = (collapsed(block, partial(self._ffn, block), self.scope) for block in self._acting)
        forwards = {module: forward for own in each for module, forward in own.items()}
        return forwards | self._attending.forwards(self._attend)

    def _begin(self, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        if self.scope:
            _refuse_checkpointing(self.model)
            rows = self._rows = self._stream.read(by_name(self.model, args, named))
            self._steps = rows.steps_for(self.policy)
            self._state = self.policy.start(self._steps, len(self.blocks))
            self._needs: set[int] = set()  # layers to measure, where all decisions are known before the pass
            self._decided = self.policy.known != LAYERWISE
            if self._decided:
                self._settle(rows, self._state)
            elif self._foresees and (seen := self._before.foresee(rows, self._state, len(self.blocks))):
                self._decided, self._needs = True, seen.needs
                self._take(rows, seen.skipped)
            else:
                self._skipped, self._dropped = np.zeros((2, len(rows), len(self.blocks)), dtype=bool)
            self._recorders = listeners(self.model)
            self._shown = [recorder for recorder in self._recorders if len(recorder.measures) > 1]
            self._unknown = np.full(len(rows), np.nan, dtype=np.float32)
            self._pending.clear()
            self._ran.clear()
            self._read_early = 0  # layers behind which early logits were computed

    def _settle(self, rows: Rows, state: Any) -> None:
        """Take over all decisions of this pass at once; the policy is not asked again."""
        self._take(rows, self.policy.skipped(state))  # type: ignore[attr-defined]
        if self._attending.found:
            self._dropped = self.policy.dropped(state)  # type: ignore[attr-defined]

    def _take(self, rows: Rows, mask: np.ndarray) -> None:
        """Set the blocks to skip in this pass, bool [token, layer]."""
        self._skipped, self._counts = mask, np.count_nonzero(mask, axis=0).tolist()
        if len(rows) > 1 and (mixed := [layer for layer, some in enumerate(self._counts) if 0 < some < len(rows)]):
            self._places = Places(rows, mask[:, mixed], mixed)

    def _asked(self, block: Block, rows: Rows, x: Tensor) -> tuple[np.ndarray, int, bool]:
        """The tokens that skip this block, bool [token], their number, and whether its distances are needed."""
        layer = block.index
        if not self._decided:
            mask = self.policy.skips(self._state, layer)
            if some := int(np.count_nonzero(mask)):
                self._skipped[:, layer] = mask
                if some < len(mask):
                    self._places = Places(rows, mask[:, None], [layer])
            return mask, some, self.policy.needs(self._state, layer)
        if isinstance(self.policy, BehindLayer) and layer == self.policy.reads:
            self._settle(rows, self.policy.route(self._steps, len(self.blocks), rows.real(x)))
        return self._skipped[:, layer], self._counts[layer], layer in self._needs

    def _end(self, module: nn.Module, args: Any, named: Any, output: Any) -> None:
        if self.scope and self._rows is not None:
            rows, self._rows = self._rows, None
            if len(self._ran) < len(self._acting):
                raise not_run(next(block.index for block in self._acting if block.index not in self._ran))
            self._stream.made(output)
            self._before.end(rows)
            self.ledger.add(rows, self._skipped, self._dropped if self._attending.found else None, self._read_early)

    def _attend(self, one: Attention, *args: Any, run: Callable[..., Any], **named: Any) -> Any:
        """Run attention for the tokens at which the policy does not drop it."""
        if (rows := self._rows) is None:
            return run(*args, **named)
        layer = one.block.index
        if self.policy.known == LAYERWISE:
            self._dropped[:, layer] = self.policy.drops(self._state, layer)
        if not (mask := self._dropped[:, layer]).any():
            return run(*args, **named)
        for recorder in self._recorders:
            recorder.provenance["dropped"] = self.policy.describe()
        return self._attending.run(one, rows, mask, run, args, named)

    def _ffn(self, block: Block, x: Tensor, *extra: Any, run: Callable[..., Any], **named: Any) -> Any:
        """Run the FFN for the tokens that the policy does not skip."""
        if (rows := self._rows) is None:  # a layer was called outside a pass of the whole model
            _refuse_checkpointing(None)
            return run(x, *extra, **named)
        self._ran.add(block.index)
        if not rows.stepped:
            rows.check(x, block.index)
        mask, some, self._needed = self._asked(block, rows, x)
        instead = self.instead.get(block.index)
        measure = self._needed or bool(
            some and self._recorders
        )  # recorders measure blocks that run for all tokens themselves
        if some and some == len(mask):
            output = block.nothing(x) if instead is None else instead(block, x)
            if self._shown:
                delta = first(output) - x if block.adds_residual else first(output)
                self._show(block, x, {"delta": delta, **dict.fromkeys(("naive_in", "naive_out"), torch.zeros_like(x))})
            self._measured(block, rows, mask, None)
            return output
        alone = block.adds_residual and bool(some or measure or self._shown)  # the FFN's own output, not the sum
        if alone:
            extra, named = without_residual(x, extra, named)
        kept, left = self._places.of(block.index, x.device) if some else (None, None)
        roles: dict[str, Tensor] = {}
        if self._shown:
            run = partial(run, seen=seeing_naive(block, roles))
        output = run(x, *extra, **named) if kept is None else run_some(block, x, kept, run, extra, named)
        if left is not None and instead is not None:
            instead.add(first(output), x, left)
        if self._shown:
            self._show(block, x, roles | {"delta": first(output)}, kept)
        if not measure:
            self._advance(block.index, rows, self._unknown)
        elif block.parallel:
            delta = first(output)
            self._pending[block.index] = delta.clone() if block.overwritten else delta
        else:
            self._measured(block, rows, mask, block_sums(block, rows, x, first(output)))
        return x + output if alone else output

    def _show(self, block: Block, x: Tensor, roles: dict[str, Tensor], kept: Tensor | None = None) -> None:
        """Give recorders the input and output of the FFN for all tokens, since their taps see only those that run."""
        for role, tensor in {"x": x, **roles}.items():
            if kept is not None and tensor.numel() != x.numel():
                tensor = spread(tensor, kept, x)
            tensor = tensor.clone() if block.overwritten else tensor
            for recorder in self._shown:
                recorder.show(block.index, role, tensor)

    def _leaving(self, block: Block) -> Callable[..., None]:
        """A hook for a parallel block, whose residual stream is known at the layer's end: the output minus the FFN."""

        def hook(module: nn.Module, args: Any, named: Any, output: Any) -> None:
            delta = self._pending.pop(block.index, None) if self.scope else None
            if delta is not None and self._rows is not None:
                precise = torch.promote_types(delta.dtype, torch.float32)
                after = first(output).to(precise)
                x = after - block.multiplier * delta.reshape(after.shape).to(precise)
                mask = self._skipped[:, block.index]
                self._measured(block, self._rows, mask, block_sums(block, self._rows, x, delta))

        return hook

    def _behind(self, block: Block, reading: Reading, module: nn.Module, args: Any, named: Any, output: Any) -> None:
        """Measure the confidence behind a layer for the tokens that the policy asks for."""
        if not self.scope or (rows := self._rows) is None:
            return
        asked = self.policy.asks(self._state, block.index)
        if count := int(np.count_nonzero(asked)):
            found = np.full(len(rows), np.nan, dtype=np.float32)
            found[asked] = confidence(reading, first(output), tokens_at(rows, asked, first(output)))
            self.ledger.probes += count
            self._read_early += 1
            self._state = self.policy.step(self._state, block.index, found)

    def _measured(self, block: Block, rows: Rows, mask: np.ndarray, abcp: Sums | None) -> None:
        """Give a layer's sums [4, token] (None if nothing ran) to the recorders, and its distances to the policy."""
        layer = block.index
        for recorder in self._recorders:
            recorder.provide(layer, None if abcp is None else torch.as_tensor(abcp), mask)
        if abcp is None or not self._needed:
            return self._advance(layer, rows, self._unknown)
        ran = len(mask) - int(np.count_nonzero(mask))
        self.ledger.probes += ran
        if self._decided:
            return self._before.measured(layer, mask, abcp)
        distance = distances(abcp)  # [token]
        if ran < len(mask):
            distance[mask] = np.nan
        return self._advance(layer, rows, distance)

    def _advance(self, layer: int, rows: Rows, distance: np.ndarray) -> None:
        """Advance the policy's state by one layer; a causal policy gets the distances of the previous tokens."""
        if self._decided or self._reading is not None:
            return
        if self.policy.causal:
            distance = self._before.moved_on(layer, rows, distance)
        self._state = self.policy.step(self._state, layer, distance)


def suited(model: PreTrainedModel, layers: int, policy: Policy) -> None:
    """Raise ValueError where a policy or its action does not fit a model with `layers` feed-forward blocks."""
    policy.check(layers)
    policy.fits(called(model), model.config.get_text_config().vocab_size)
    if policy.action is not None:
        policy.action.check(layers)


def _acting(policy: Policy, layers: int) -> Sequence[int]:
    """The layers whose blocks ask the policy, or give it the stream that it reads."""
    skippable = policy.skippable(layers)
    if isinstance(policy, BehindLayer) and skippable:
        return (policy.reads, *skippable)
    return skippable or (0, -1)


def _refuse_checkpointing(model: nn.Module | None) -> None:
    """Raise ValueError for gradient checkpointing: no policy acts when the backward pass recomputes layers."""
    asked = model is not None and model.training and torch.is_grad_enabled()
    if recomputing() or (asked and any(getattr(part, "gradient_checkpointing", False) for part in model.modules())):  # type: ignore[union-attr]
        raise ValueError(
            "expected no gradient checkpointing inside skip: the backward pass computes layers anew, where no policy "
            "acts, so that gradients would be those of another run; call model.gradient_checkpointing_disable()"
        )
