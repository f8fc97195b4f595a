"""The proof, on the traced tensors, that a block is exactly the FFN of its layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..patching import patched
from .blocks import Block, first, refusal
from .branches import joined, pass_on
from .calls import Call, same, watched
from .weight_bytes import weight


def prove(model: PreTrainedModel, block: Block, call: Call, output: Tensor) -> Block:
    """Prove a block and complete its fields from the layer's behaviour on the traced input, or refuse it."""
    inside = {block.layer, *(part for module in block.modules for part in module.modules())}
    outside = [module for module in block.layer.modules() if module not in inside]

    def layer(block: Block, replacement: Callable[..., Any]) -> tuple[Tensor, list[Call]]:
        with patched(collapsed(block, replacement)), watched(outside) as calls:
            return first(block.layer(*call.args, **call.named)), calls

    seen = _Observed()
    again, running = layer(block, partial(seen.spy, block))
    if not torch.equal(again, output):
        reason = "running its feed-forward part as one piece changes its output"
        if (bare := _without_norm(block)) and torch.equal(layer(bare, partial(seen.spy, bare))[0], output):
            reason = "it is post-norm: its feed-forward output is added to what a norm gave, not to the residual stream"
        raise refusal(model, block.number, reason)
    source, delta = (block.chain[-1], seen.copy) if not seen.residual else seen.inner(model, block)
    block = replace(
        block,
        source=source,
        adds_residual=seen.residual,
        overwritten=not torch.equal(first(seen.added), seen.copy),
        outputs=len(seen.added) if isinstance(seen.added, tuple | list) else 0,
    )
    without, silent = layer(block, lambda x, *_, run, **__: block.nothing(x))
    if without.numel() != seen.x.numel():
        raise refusal(model, block.number, "it hands on more than one residual stream")
    if not without.any():  # else a list of FFNs would pass as layers parallel to attention (XLM)
        raise refusal(model, block.number, "it gives the feed-forward output alone, which is added outside the layer")
    scale = next((s for s in _scales(block.layer) if torch.equal(without.reshape(seen.x.shape), seen.x * s)), None)
    if scale is None and (multiplier := _read_on(block.layer, seen.x, delta, running, silent)):
        ends_in_module = any(same(call.output, again) for call in running)  # such as a norm of the sum
        if not ends_in_module and _near(_carried(block, partial(layer, block), multiplier * delta), output):
            return replace(block, multiplier=multiplier)
    multiplier = _multiplier(block.layer, without, output, delta, scale or 1.0)
    if multiplier is None or (scale is None and not _reads_layer_input(call, seen.x, block)):
        raise refusal(model, block.number, "its feed-forward output is not simply added to the residual stream")
    return replace(block, multiplier=multiplier, parallel=scale is None)


def _without_norm(block: Block) -> Block | None:
    """The block without the modules before its first matrix; None where there are none, or it has branches."""
    first_matrix = next((place for place, module in enumerate(block.chain) if weight(module)), 0)
    return replace(block, chain=block.chain[first_matrix:]) if first_matrix and not block.steps else None


class _Observed:
    """Input and output of an FFN while its layer ran."""

    x: Tensor
    added: Any  # its output as it was returned
    copy: Tensor  # the same before the layer could change it in place
    residual: bool  # whether it also got the residual stream
    parts: list[Call]

    def spy(self, block: Block, x: Tensor, *extra: Any, run: Callable[..., Any], **named: Any) -> Any:
        """Run the FFN and keep its input and output."""
        with watched([*block.chain[-1].modules()]) as self.parts:
            self.added = run(x, *extra, **named)
        self.x, self.copy = x, first(self.added).clone()
        self.residual = any(same(argument, x) for argument in (*extra, *named.values()))
        return self.added

    def inner(self, model: PreTrainedModel, block: Block) -> tuple[nn.Module, Tensor]:
        """The submodule whose output is added to the residual stream, where the last module returns the sum."""
        last = block.chain[-1]
        found = [part for part in self.parts if part.module is not last and _adds(self.x, part.output, self.copy)]
        if not found:
            raise refusal(model, block.number, "its feed-forward part adds the residual stream by itself")
        return found[-1].module, found[-1].output


def collapsed(
    block: Block, replacement: Callable[..., Any], scope: object = True
) -> dict[nn.Module, Callable[..., Any]]:
    """Forwards for `patched` under which the whole FFN of a layer runs as one call at the end of its chain.

    Parameters
    ----------
    block
        The feed-forward block.
    replacement
        Called as ``replacement(x, *extra, run=run, **named)`` with the FFN's input x [..., hidden] and the other
        arguments of the last module; ``run`` is the FFN itself, and calls its option ``seen`` with each module of the
        chain, its input and its output.
    scope
        While it is false the modules run unchanged.
    """
    originals = [module.forward for module in block.chain]
    before = list(zip(block.chain, originals, strict=True))[:-1]

    def run(x: Tensor, *extra: Any, seen: Callable[..., None] | None = None, **named: Any) -> Any:
        for module, forward in before:
            given, x = x, first(forward(x))
            if seen is not None:
                seen(module, given, x)
        output = originals[-1](x, *extra, **named)
        if seen is not None:
            seen(block.chain[-1], x, first(output))
        return output

    def gated(inside: Callable[..., Any], outside: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **named: (inside if scope else outside)(*args, **named)

    if block.steps:
        return {module: gated(inside, module.forward) for module, inside in joined(block, replacement).items()}
    insides: list[Callable[..., Any]] = [*[pass_on] * (len(originals) - 1), partial(replacement, run=run)]
    return dict(zip(block.chain, map(gated, insides, originals), strict=True))


def _scales(layer: nn.Module) -> list[float]:
    """Factors by which a layer may multiply the whole residual stream at its end: 1, or a number it holds (Gemma 4)."""
    held = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
    return [1.0, *(float(number) for number in held if number.numel() == 1 and not number.is_meta)]


def _read_on(layer: nn.Module, x: Tensor, delta: Tensor, running: list[Call], silent: list[Call]) -> float | None:
    """The multiplier, for a layer that reads the sum again before it ends (Gemma 4's per-layer inputs)."""
    for one, other in zip(running, silent, strict=False):
        if one.module is not other.module or not torch.is_tensor(one.input) or one.input.shape != x.shape:
            continue
        if torch.equal(other.input, x) and not torch.equal(one.input, x):
            return _multiplier(layer, x, one.input, delta)
    return None


def _carried(block: Block, layer: Callable[..., tuple[Tensor, list[Call]]], added: Tensor) -> Tensor:
    """The layer's output where the FFN adds nothing, but its output is in the residual stream before it."""
    held: list[tuple[Tensor, Tensor]] = []

    def replacement(x: Tensor, *_: Any, run: Callable[..., Any], **__: Any) -> Any:
        held.append((x, x.clone()))
        x += added
        return block.nothing(x)

    try:
        return layer(replacement)[0].clone()
    finally:
        for x, before in held:
            x.copy_(before)


def _near(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal up to rounding."""
    slack = 8 * torch.finfo(other.dtype).eps * float(other.double().abs().max())
    return float((one.double() - other.double()).abs().max()) <= slack


def _multiplier(layer: nn.Module, without: Tensor, output: Tensor, delta: Tensor, scale: float = 1.0) -> float | None:
    """The factor m of output = without + scale * m * delta, or None where there is none."""
    delta, moved = delta.flatten().double() * scale, (output.double() - without.double()).flatten()
    if not delta.any():
        return 1.0 if not moved.any() else None
    factor = float(moved @ delta / (delta @ delta))
    if not _near(without.double().flatten() + factor * delta, output.flatten()):
        return None
    known = [1.0, *(value for value in vars(layer).values() if isinstance(value, float))]
    nearest = min(known, key=lambda value: abs(value - factor))
    return nearest if abs(nearest - factor) < 0.02 * abs(factor) else factor


def _reads_layer_input(call: Call, x: Tensor, block: Block) -> bool:
    """Whether the FFN's input x is the layer's input, or a norm of it that attention shares."""
    if same(x, call.input):
        return True
    with watched([child for child in block.layer.children() if child not in block.modules]) as calls:
        block.layer(*call.args, **call.named)
    return any(same(part.input, call.input) and torch.equal(part.output, x) for part in calls if not part.mixes)


def _adds(x: Tensor, part: Any, total: Tensor) -> bool:
    return torch.is_tensor(part) and part.shape == x.shape and torch.equal(x + part, total)
