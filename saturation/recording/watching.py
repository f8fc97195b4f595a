"""Eyes on every decoder layer that take down how far each block turns the residual stream, token by token."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..anatomy import Block, find_blocks, first
from ..patching import Hooks, Scope, alone, ensured, patched
from ..similarity import sums
from ..trace import Trace
from .assembling import Part, assemble
from .stream import Rows, Stream, by_name

EXTRAS = ("attention", "block", "naive")
ROLES = ("x", "delta", "before", "after", "naive_in", "naive_out")
LARGE = 1 << 16  # elements of one activation above which it is summed at once, not kept to the end of the pass
TOGETHER = 16  # decode steps that are summed at once
HELD = 1 << 22  # numbers that wait on the device before they are moved to the host

_RECORDERS: WeakKeyDictionary[PreTrainedModel, set[Recorder]] = WeakKeyDictionary()


@contextmanager
def watch(
    model: PreTrainedModel,
    *,
    tokenizer: Any = None,
    start: int | Sequence[int] | None = None,
    also: Sequence[str] = (),
) -> Iterator[Recorder]:
    """Record every forward pass that the block runs on the model; the logits stay the same, bit for bit.

    Only the context that entered is recorded. Where another thread watches or skips in the same model, this one waits
    for its turn.

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
    listening = _RECORDERS.setdefault(model, set())
    hooks = Hooks()
    left = ensured(lambda: listening.discard(recorder))
    with alone(model, recorder.scope), patched(recorder.forwards()), hooks.held(), recorder.scope.entered(), left:
        listening.add(recorder)
        recorder.register(hooks)
        try:
            yield recorder
        except KeyboardInterrupt as stop:
            stop.trace = recorder.trace(complete=False)  # type: ignore[attr-defined]
            raise


def listeners(model: PreTrainedModel) -> list[Recorder]:
    """The recorders that listen to this model in this context."""
    return [recorder for recorder in _RECORDERS.get(model, ()) if recorder.scope]


class _Pass:
    """One forward pass under way: tensors kept by role and layer until they are summed."""

    def __init__(self, rows: Rows, layers: int) -> None:
        self.rows, self.thread = rows, get_ident()
        self.kept: dict[str, list[Any]] = {role: [None] * layers for role in ROLES}
        self.summed: dict[str, dict[int, Tensor]] = {}
        self.skipped: np.ndarray | None = None  # bool [token, layer], where a skipping run says so


class _Eye(NamedTuple):
    """What one module shows: its output or its first input, kept under the name of a role."""

    block: Block
    role: str
    output: bool
    last: bool = False  # the layer has shown all that is needed


class Recorder:
    """What `watch` hands out; `trace()` gives everything recorded so far."""

    def __init__(self, model: PreTrainedModel, tokenizer: Any, start: Any, also: Sequence[str]) -> None:
        if unknown := [name for name in also if name not in EXTRAS]:
            raise ValueError(f"expected also= to name any of {', '.join(EXTRAS)}, got {unknown[0]!r}; leave it out")
        self.model, self.tokenizer = model, tokenizer
        self.blocks = find_blocks(model)
        self.measures = ("ffn", *also)
        self.provenance: dict[str, Any] = {}
        self.scope = Scope()
        self._stream = Stream(start)
        self._now: _Pass | None = None
        self._waiting: list[_Pass] = []  # decode steps that will be summed together
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
        self._flush()
        provenance = {**self.provenance, "also": list(self.measures[1:]), "complete": complete}
        return assemble(self._parts, self.model, self.blocks, self.tokenizer, provenance)

    def provide(self, layer: int, abcp: Tensor, skipped: np.ndarray) -> None:
        """Take a layer's sums [4, token] and skip mask [token] from a skipping run, which has both already."""
        if (now := self._now) is not None:
            if now.skipped is None:
                now.skipped = np.zeros((len(now.rows), len(self.blocks)), dtype=bool)
            now.skipped[:, layer] = skipped
            now.summed.setdefault("ffn", {})[layer] = abcp

    # --- eyes on the model: they read, and hand every output on as it is ---------------------------------------

    def register(self, hooks: Hooks) -> None:
        """Hooks that open and close each pass."""
        hooks.before(self.model, self._begin)
        hooks.after(self.model, self._end)

    def forwards(self) -> dict[nn.Module, Callable[..., Any]]:
        """Forwards that do what they did, and keep what goes in or comes out; a hook would cost three times more."""
        eyes: defaultdict[nn.Module, list[_Eye]] = defaultdict(list)
        around = bool({"attention", "block"} & set(self.measures))
        for block in self.blocks:
            whole = around or block.parallel
            eyes[block.chain[0]].append(_Eye(block, "x", False))
            if "naive" in self.measures:
                heavy = [m for m in block.chain if any(p.ndim > 1 for p in m.parameters())]
                eyes[heavy[0]].append(_Eye(block, "naive_in", False))
                eyes[block.source if block.adds_residual else heavy[-1]].append(_Eye(block, "naive_out", True))
            eyes[block.source].append(_Eye(block, "delta", True, last=not whole))
            if whole:
                eyes[block.layer] += [_Eye(block, "before", False), _Eye(block, "after", True, last=True)]
        return {module: self._seen(module.forward, tuple(own)) for module, own in eyes.items()}

    def _seen(self, forward: Callable[..., Any], eyes: tuple[_Eye, ...]) -> Callable[..., Any]:
        def look(*args: Any, **named: Any) -> Any:
            result = forward(*args, **named)
            now = self._now
            if now is not None and now.thread == get_ident():  # else someone else calls the model meanwhile
                for block, role, output, last in eyes:
                    given = first(result) if output else args[0] if args else named["hidden_states"]
                    given = given.detach() if given.requires_grad else given
                    now.kept[role][block.index] = given.clone() if block.overwritten else given
                    if last and given.numel() > LARGE:
                        self._settle(now, block.index)
            return result

        return look

    def _begin(self, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        if self.scope:
            self._now = _Pass(self._stream.read(by_name(self.model, args, named)), len(self.blocks))

    def _settle(self, now: _Pass, layer: int) -> None:
        """Sum a large activation at once, so that no pass holds those of all layers."""
        kept = [tensors[layer] for tensors in now.kept.values() if tensors[layer] is not None]
        if not all(map(now.rows.whole, kept)):
            return  # the FFN of some tokens alone, which the skipping run sums
        for measure in self.measures:
            done = now.summed.setdefault(measure, {})
            if layer not in done:
                done[layer] = sums(*_pair(measure, [now], self.blocks[layer : layer + 1]))[:, 0]
        for tensors in now.kept.values():
            tensors[layer] = None

    def _end(self, module: nn.Module, args: Any, named: Any, output: Any) -> None:
        now = self._now
        if now is None or now.thread != get_ident():
            return
        self._now = None
        if not now.rows.stepped or now.summed:
            self._flush()
            measured = {measure: self._gather(measure, now) for measure in self.measures}
            self._add(Part((now.rows,), measured, now.skipped))
            return
        if self._waiting and len(self._waiting[0].rows) != len(now.rows):
            self._flush()
        self._waiting.append(now)
        if len(self._waiting) == TOGETHER:
            self._flush()

    def _flush(self) -> None:
        """Sum the decode steps that wait: a few large operations instead of many small ones."""
        passes, self._waiting = self._waiting, []
        if not passes:
            return
        shape = (len(passes), len(self.blocks))
        measured = {
            measure: sums(*_pair(measure, passes, self.blocks)).unflatten(1, shape).transpose(1, 2).flatten(2)
            for measure in self.measures
        }
        self._add(Part(tuple(now.rows for now in passes), measured, None))

    def _add(self, part: Part) -> None:
        self._parts.append(part)
        self._held += sum(abcp.numel() for abcp in part.sums.values())
        if self._held > HELD:
            self._parts = [part.on_host() for part in self._parts]
            self._held = 0

    def _gather(self, measure: str, now: _Pass) -> Tensor:
        """The sums of one measure in all layers of one pass, [4, layer, token]."""
        done = now.summed.get(measure, {})
        if missing := [block for block in self.blocks if block.index not in done]:
            rest = sums(*_pair(measure, [now], missing))  # [4, layer, token]
            if not done:
                return rest
            done.update(zip((block.index for block in missing), rest.unbind(1), strict=True))
        device = done[0].device
        return torch.stack([done[layer].to(device) for layer in range(len(self.blocks))], dim=1)


def _pair(measure: str, passes: Sequence[_Pass], blocks: Sequence[Block]) -> tuple[Tensor, Tensor]:
    """The residual stream and what is added to it, [pass * layer, token, hidden] each, without padding."""
    if measure == "naive":
        return _stacked("naive_in", passes, blocks), _stacked("naive_out", passes, blocks)
    if measure == "block":
        before, after = _stacked("before", passes, blocks), _stacked("after", passes, blocks)
        return before, _precise(after) - _precise(before)
    delta = _stacked("delta", passes, blocks)
    if any(block.multiplier != 1 for block in blocks):
        factors = torch.tensor([block.multiplier for block in blocks] * len(passes), device=delta.device)
        delta = _precise(delta) * factors[:, None, None]
    if blocks[0].parallel:  # attention is added with the FFN: the stream the FFN turns is the output without it
        x = _precise(_stacked("after", passes, blocks)) - _precise(delta)
    else:
        x = _stacked("x", passes, blocks)
    if measure == "attention":
        before = _precise(_stacked("before", passes, blocks))
        return before, _precise(x) - before
    return x, delta


def _stacked(role: str, passes: Sequence[_Pass], blocks: Sequence[Block]) -> Tensor:
    """What was kept under a role, [pass * layer, token, hidden], real tokens only."""
    tensors = [now.kept[role][block.index] for now in passes for block in blocks]
    if not passes[0].rows.stepped:
        for tensor, block in zip(tensors, blocks, strict=True):  # passes over text are summed one by one
            passes[0].rows.check(tensor, block.index)
    if tensors[0].device != tensors[-1].device:
        tensors = [tensor.to(tensors[0].device) for tensor in tensors]
    flat = torch.stack(tensors).flatten(1, -2)  # [pass * layer, batch * width, hidden]
    index = passes[0].rows.index  # passes that are summed together are decode steps, which have no padding
    return flat if index is None else flat[:, torch.from_numpy(index).to(flat.device)]


def _precise(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
