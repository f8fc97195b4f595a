"""Recording of forward passes: taps on every decoder layer measure how far each block turns the residual stream."""

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

from ..anatomy import Block, find_blocks, first, recomputing, running, wrappers
from ..patching import Hooks, Scope, exclusive, patched, restored, uncompiled
from ..trace import Trace
from .assembling import Part, assemble, on_host
from .running_pass import Pass, ends, numbers
from .token_stream import Stream, by_name

EXTRAS = ("attention", "block", "naive", "magnitude")
LARGE = 1 << 16  # elements from which an activation is summed immediately, not at the end of the pass
TOGETHER = 16  # decode steps that are summed together
HELD = 1 << 22  # numbers kept on the device before they are moved to the host

_RECORDERS: WeakKeyDictionary[PreTrainedModel, set[Recorder]] = WeakKeyDictionary()


@contextmanager
def watch(
    model: PreTrainedModel,
    *,
    tokenizer: Any = None,
    start: int | Sequence[int] | None = None,
    also: Sequence[str] = (),
) -> Iterator[Recorder]:
    """Record every forward pass of the model inside a `with` block; the logits stay the same, bit for bit.

    Only passes of the context (thread or task) that entered are recorded. While another thread watches or skips in the
    same model, this one waits.

    Parameters
    ----------
    model
        A causal language model of transformers, in eval mode, or a wrapper of one (PEFT, torch.compile and others).
    tokenizer
        Gives the texts of the tokens in the trace; without one they are empty.
    start
        Position from which given text counts as decode: an int, or one per sequence. None: given text is prefill
        and only steps on a filled KV cache are decode.
    also
        More to record: "attention" and "block" (distance and growth of the attention sublayer and of the whole
        decoder layer), "naive" (cosine of the normed input with the raw FFN output, the classic mistake),
        "magnitude" (largest and median |h_i| of the residual stream behind each layer, see `Trace.massive`).

    Yields
    ------
    Recorder
        Its `trace()` may be called inside the block or after it.

    Raises
    ------
    UnsupportedModel
        Where the model's feed-forward blocks cannot be found.
    KeyboardInterrupt
        Raised again, with the partial trace as its attribute `trace`, marked incomplete.
    """
    recorder = Recorder(model, tokenizer, start, also)
    listening = _RECORDERS.setdefault(recorder.model, set())
    hooks = Hooks()
    left = restored(lambda: listening.discard(recorder))
    with (
        exclusive(recorder.model, recorder.scope),
        uncompiled(model),
        patched(recorder.forwards()),
        hooks.held(),
        recorder.scope.entered(),
        left,
    ):
        listening.add(recorder)
        recorder.register(hooks)
        try:
            yield recorder
        except KeyboardInterrupt as stop:
            stop.trace = recorder.trace(complete=False)  # type: ignore[attr-defined]
            raise


def listeners(model: PreTrainedModel) -> list[Recorder]:
    """The recorders that record this model in this context."""
    return [recorder for recorder in _RECORDERS.get(model, ()) if recorder.scope]


class _Tap(NamedTuple):
    """A tap on one module: keeps its output or its first input under the name of a role."""

    block: Block
    role: str
    output: bool
    last: bool = False  # the last tap of its layer
    adds: bool = False  # a branch of the block: its tensor is added to those of the other branches


class Recorder:
    """The recorder that `watch` yields; `trace()` returns everything recorded so far."""

    def __init__(self, model: PreTrainedModel, tokenizer: Any, start: Any, also: Sequence[str]) -> None:
        if unknown := [name for name in also if name not in EXTRAS]:
            raise ValueError(f"expected also= to name any of {', '.join(EXTRAS)}, got {unknown[0]!r}; leave it out")
        self.tokenizer = tokenizer
        self.blocks = find_blocks(model)
        self.model, added = running(model)
        self.measures = ("ffn", *also)
        self.provenance: dict[str, Any] = {"wrappers": names} if (names := wrappers(model)) else {}
        self.scope = Scope()
        self._stream = Stream(start, added)
        self._now: Pass | None = None
        self._waiting: list[Pass] = []  # decode steps to be summed together
        self._parts: list[Part] = []
        self._held = 0

    def trace(self, *, complete: bool = True) -> Trace:
        """Build a Trace of everything recorded so far, sorted by sequence and position.

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

    def provide(self, layer: int, abcp: Tensor | None, skipped: np.ndarray) -> None:
        """Store a layer's sums [4, token] (None if nothing ran) and skip mask [token], given by a skipping run."""
        if (now := self._now) is not None:
            if now.skipped is None:
                now.skipped = np.zeros((len(now.rows), len(self.blocks)), dtype=bool)
            now.skipped[:, layer] = skipped
            now.summed.setdefault("ffn", {})[layer] = abcp

    def show(self, layer: int, role: str, tensor: Tensor) -> None:
        """Store a tensor of all tokens of a pass, given by a skipping run; a tap would see only the tokens that run."""
        if (now := self._now) is not None and layer not in now.summed.get(self.measures[-1], ()):
            now.kept[role][layer] = tensor.detach()
            now.given.add((role, layer))

    # --- taps on the model: they read outputs and do not change them ---------------------------------------------

    def register(self, hooks: Hooks) -> None:
        """Register the hooks that open and close each pass."""
        hooks.before(self.model, self._begin)
        hooks.after(self.model, self._end)

    def forwards(self) -> dict[nn.Module, Callable[..., Any]]:
        """Forwards that keep the inputs or outputs of their modules; a hook would cost three times more."""
        taps: defaultdict[nn.Module, list[_Tap]] = defaultdict(list)
        around = len(self.measures) > 1
        for block in self.blocks:
            whole = around or block.parallel
            taps[block.chain[0]].append(_Tap(block, "x", False))
            if "naive" in self.measures:
                reads, gives = ends(block)
                taps[reads].append(_Tap(block, "naive_in", False))
                for end in block.ends if block.steps else (block.source if block.adds_residual else gives,):
                    taps[end].append(_Tap(block, "naive_out", True, adds=bool(block.summed)))
            for end in block.ends:
                final = not whole and end is block.ends[-1]
                taps[end].append(_Tap(block, "delta", True, last=final, adds=bool(block.summed)))
            if whole:
                taps[block.layer] += [_Tap(block, "before", False), _Tap(block, "after", True, last=True)]
        return {module: self._tapped(module.forward, tuple(own)) for module, own in taps.items()}

    def _tapped(self, forward: Callable[..., Any], taps: tuple[_Tap, ...]) -> Callable[..., Any]:
        def tapped(*args: Any, **named: Any) -> Any:
            result = forward(*args, **named)
            now = self._now
            if now is not None and now.thread == get_ident():  # else another thread called the model
                for block, role, output, last, adds in taps:
                    given = first(result) if output else args[0] if args else named["hidden_states"]
                    if not now.given or (role, block.index) not in now.given:
                        given = given.detach() if given.requires_grad else given
                        given = given.clone() if block.overwritten else given
                        before = now.kept[role][block.index] if adds else None
                        now.kept[role][block.index] = given if before is None else before + given.reshape(before.shape)
                    if last and given.numel() > LARGE:
                        self._settle(now, block.index)
            return result

        return tapped

    def _begin(self, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        if self.scope and not recomputing():  # the backward pass recomputes layers that were recorded already
            self._now = Pass(self._stream.read(by_name(self.model, args, named)), len(self.blocks))

    def _settle(self, now: Pass, layer: int) -> None:
        """Sum a large activation immediately, so that a pass does not hold those of all layers."""
        kept = [tensors[layer] for tensors in now.kept.values() if tensors[layer] is not None]
        if not all(map(now.rows.whole, kept)):
            return  # the FFN ran for some tokens only; the skipping run sums those
        for measure in self.measures:
            done = now.summed.setdefault(measure, {})
            if layer not in done:
                done[layer] = numbers(measure, [now], self.blocks[layer : layer + 1])[:, 0]
        for tensors in now.kept.values():
            tensors[layer] = None

    def _end(self, module: nn.Module, args: Any, named: Any, output: Any) -> None:
        now = self._now
        if now is None or now.thread != get_ident():
            return
        self._now = None
        self._stream.made(output)
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
        """Sum the waiting decode steps together: a few large operations instead of many small ones."""
        passes, self._waiting = self._waiting, []
        if not passes:
            return
        shape = (len(passes), len(self.blocks))
        measured = {
            measure: numbers(measure, passes, self.blocks).unflatten(1, shape).transpose(1, 2).flatten(2)
            for measure in self.measures
        }
        self._add(Part(tuple(now.rows for now in passes), measured, None))

    def _add(self, part: Part) -> None:
        self._parts.append(part)
        self._held += sum(abcp.numel() for abcp in part.sums.values())
        if self._held > HELD:
            self._parts = on_host(self._parts)
            self._held = 0

    def _gather(self, measure: str, now: Pass) -> Tensor:
        """The numbers of one measure at all layers of one pass, [4 or 2, layer, token]."""
        done = now.summed.get(measure, {})
        if missing := [block for block in self.blocks if block.index not in done]:
            rest = numbers(measure, [now], missing)  # [4 or 2, layer, token]
            if not done:
                return rest
            done.update(zip((block.index for block in missing), rest.unbind(1), strict=True))
        ran = next((abcp for abcp in done.values() if abcp is not None), torch.empty(0))
        nothing = ran.new_full((4, len(now.rows)), torch.nan)
        each = (done[layer] for layer in range(len(self.blocks)))
        return torch.stack([nothing if abcp is None else abcp.to(ran.device) for abcp in each], dim=1)
