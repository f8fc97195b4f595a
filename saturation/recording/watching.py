"""Hooks on every decoder layer that take down how far each block turns the residual stream, token by token."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from ..anatomy import Block, find_blocks, first
from ..patching import Scope, hooked
from ..similarity import sums
from ..trace import Trace
from .assembling import Part, assemble
from .stream import Rows, Stream

EXTRAS = ("attention", "block", "naive")
LARGE = 1 << 16  # elements of one activation above which it is summed at once, not kept to the end of the pass
HELD = 1 << 22  # numbers that wait on the device before they are moved to the host

_RECORDERS: WeakKeyDictionary[nn.Module, list[Recorder]] = WeakKeyDictionary()


@contextmanager
def watch(
    model: nn.Module,
    *,
    tokenizer: Any = None,
    start: int | Sequence[int] | None = None,
    also: Sequence[str] = (),
) -> Iterator[Recorder]:
    """Record every forward pass that the block runs on the model; the logits stay the same, bit for bit.

    Parameters
    ----------
    model
        A causal language model of transformers, in eval mode.
    tokenizer
        Gives the trace its texts; without one they are empty.
    start
        Position from which given text counts as decode: an int, or one per sequence. None: given text is prefill
        and only steps on a filled KV cache are decode.
    also
        More to record: "attention" and "block" (distance and growth of the attention sublayer and of the whole
        decoder layer), "naive" (cosine of the normed input with the raw FFN output, the classic mistake).

    Yields
    ------
    Recorder
        Its `trace()` may be called inside the block or after it.

    Raises
    ------
    UnsupportedModel
        Where the model's feed-forward blocks cannot be found.
    KeyboardInterrupt
        As it came, with the partial trace as its attribute `trace`, marked incomplete.
    """
    recorder = Recorder(model, tokenizer, start, also)
    listening = _RECORDERS.setdefault(model, [])
    with hooked(recorder.register), recorder.scope.entered():
        listening.append(recorder)
        try:
            yield recorder
        except KeyboardInterrupt as stop:
            stop.trace = recorder.trace(complete=False)  # type: ignore[attr-defined]
            raise
        finally:
            listening.remove(recorder)


def listeners(model: nn.Module) -> list[Recorder]:
    """The recorders that listen to this model in this context."""
    return [recorder for recorder in _RECORDERS.get(model, ()) if recorder.scope]


@dataclass(eq=False)
class _Pass:
    """One forward pass under way: tensors kept by role and layer until they are summed."""

    rows: Rows
    kept: defaultdict[str, dict[int, Tensor]] = field(default_factory=lambda: defaultdict(dict))
    summed: defaultdict[str, dict[int, Tensor]] = field(default_factory=lambda: defaultdict(dict))
    skipped: np.ndarray | None = None  # bool [token, layer], where a skipping run says so


class Recorder:
    """What `watch` hands out; `trace()` gives everything recorded so far."""

    def __init__(self, model: nn.Module, tokenizer: Any, start: Any, also: Sequence[str]) -> None:
        if unknown := [name for name in also if name not in EXTRAS]:
            raise ValueError(f"expected also= to name any of {', '.join(EXTRAS)}, got {unknown[0]!r}; leave it out")
        self.model, self.tokenizer = model, tokenizer
        self.blocks = find_blocks(model)
        self.measures = ("ffn", *also)
        self.provenance: dict[str, Any] = {}
        self.scope = Scope()
        self._stream = Stream(start)
        self._now: _Pass | None = None
        self._parts: list[Part] = []
        self._held = 0

    def trace(self, *, complete: bool = True) -> Trace:
        """Everything recorded so far, sorted by sequence and position.

        Parameters
        ----------
        complete
            False marks the trace of an interrupted run in its provenance.

        Returns
        -------
        Trace
            One row per real token.

        Raises
        ------
        ValueError
            Where an activation was not finite; the message names layer and token.
        """
        provenance = {**self.provenance, "also": list(self.measures[1:]), "complete": complete}
        return assemble(self._parts, self.model, self.blocks, self.tokenizer, provenance)

    def provide(self, layer: int, abcp: Tensor, skipped: np.ndarray) -> None:
        """Take a layer's sums [4, token] and skip mask [token] from a skipping run, which has both already."""
        if (now := self._now) is not None:
            if now.skipped is None:
                now.skipped = np.zeros((len(now.rows), len(self.blocks)), dtype=bool)
            now.skipped[:, layer] = skipped
            now.summed["ffn"][layer] = abcp

    # --- hooks: they read, and return nothing ------------------------------------------------------------------

    def register(self, handles: list[Any]) -> None:
        """Put the hooks on the model; each handle joins `handles` as soon as it is made."""
        handles.append(self.model.register_forward_pre_hook(self._begin, with_kwargs=True))
        whole = {"attention", "block"} & set(self.measures)
        for block in self.blocks:
            self._keep(handles, block, block.chain[0], x="input")
            if "naive" in self.measures:
                heavy = [m for m in block.chain if any(p.ndim > 1 for p in m.parameters())]
                self._keep(handles, block, heavy[0], naive_in="input")
                raw = block.source if block.adds_residual else heavy[-1]
                self._keep(handles, block, raw, naive_out="output")
            self._keep(handles, block, block.source, delta="output")
            if block.parallel or whole:
                self._keep(handles, block, block.layer, before="input", after="output")
            last = block.layer if block.parallel or whole else block.source
            handles.append(last.register_forward_hook(self._settling(block)))
        handles.append(self.model.register_forward_hook(self._end))

    def _begin(self, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        if self.scope:
            self._now = _Pass(self._stream.read(args, named))

    def _keep(self, handles: list[Any], block: Block, module: nn.Module, **roles: str) -> None:
        """Keep a module's first input or its output under the name of its role."""
        layer, clone = block.index, block.overwritten

        def hook(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            if (now := self._now) is None or not self.scope:
                return
            for role, side in roles.items():
                tensor = first(output) if side == "output" else args[0] if args else named["hidden_states"]
                now.kept[role][layer] = tensor.clone() if clone else tensor

        handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def _settling(self, block: Block) -> Callable[..., None]:
        """Sum a large activation as soon as its layer has all that is needed."""

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if (now := self._now) is not None and self.scope and now.kept["x"][block.index].numel() > LARGE:
                for measure in self.measures:
                    if block.index not in now.summed[measure]:
                        residual, delta = _pair(measure, now, block)
                        now.summed[measure][block.index] = sums(residual, delta)
                for tensors in now.kept.values():
                    tensors.pop(block.index, None)

        return hook

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        if (now := self._now) is None or not self.scope:
            return
        self._now = None
        measured = {measure: _gather(measure, now, self.blocks) for measure in self.measures}
        self._parts.append(Part(now.rows, measured, now.skipped))
        self._held += 4 * len(now.rows) * len(self.blocks) * len(self.measures)
        if self._held > HELD:
            self._parts = [part.on_host() for part in self._parts]
            self._held = 0


def _gather(measure: str, now: _Pass, blocks: Sequence[Block]) -> Tensor:
    """The sums of one measure in all layers, [4, layer, token]."""
    done = now.summed[measure]
    if not done:  # the usual decode step: one batched sum over all layers
        pairs = [_pair(measure, now, block) for block in blocks]
        device = pairs[0][0].device
        residual = torch.stack([x.to(device, non_blocking=True) for x, _ in pairs])
        return sums(residual, torch.stack([delta.to(device, non_blocking=True) for _, delta in pairs]))
    columns = [done[b.index] if b.index in done else sums(*_pair(measure, now, b)) for b in blocks]
    return torch.stack([column.to(columns[0].device) for column in columns], dim=1)


def _pair(measure: str, now: _Pass, block: Block) -> tuple[Tensor, Tensor]:
    """The residual stream and what is added to it, each [token, hidden], real tokens only."""
    kept = {role: _rows(tensors[block.index], now.rows) for role, tensors in now.kept.items()}
    if measure == "naive":
        return kept["naive_in"], kept["naive_out"]
    if measure == "block":
        return kept["before"], _precise(kept["after"]) - _precise(kept["before"])
    x, delta = kept["x"], kept["delta"]
    if block.parallel:  # attention is added with the FFN: the stream the FFN turns is the output without it
        x = _precise(kept["after"]) - block.multiplier * _precise(delta)
    if measure == "attention":
        return kept["before"], _precise(x) - _precise(kept["before"])
    return x, delta if block.multiplier == 1 else _precise(delta) * block.multiplier


def _rows(tensor: Tensor, rows: Rows) -> Tensor:
    flat = tensor.reshape(-1, tensor.shape[-1])  # [batch * width, hidden]
    return flat if rows.index is None else flat[torch.from_numpy(rows.index).to(flat.device)]


def _precise(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
