"""Proof on the traced tensors that a block is the FFN, and nothing but the FFN."""

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
from .calls import Call, same, watched


def prove(model: PreTrainedModel, block: Block, call: Call, output: Tensor) -> Block:
    """Complete the block from the layer's behaviour on the traced input, or refuse it."""

    def layer(replacement: Callable[..., Any]) -> Tensor:
        with patched(collapsed(block, replacement)):
            return first(block.layer(*call.args, **call.named))

    seen: dict[str, Any] = {}

    def spy(x: Tensor, *extra: Any, run: Callable[..., Any], **named: Any) -> Any:
        with watched([*block.chain[-1].modules()]) as parts:
            seen["added"] = run(x, *extra, **named)
        seen.update(x=x, parts=parts, copy=first(seen["added"]).clone())
        seen["residual"] = any(same(argument, x) for argument in (*extra, *named.values()))
        return seen["added"]

    if not torch.equal(layer(spy), output):
        raise refusal(model, block.index, "running its feed-forward part as one piece changes its output")
    x, delta, source = seen["x"], seen["copy"], block.chain[-1]
    if seen["residual"]:
        found = [part for part in seen["parts"] if part.module is not source and _adds(x, part.output, delta)]
        if not found:
            raise refusal(model, block.index, "its feed-forward part adds the residual stream by itself")
        source, delta = found[-1].module, found[-1].output
    added = seen["added"]
    block = replace(
        block,
        source=source,
        adds_residual=seen["residual"],
        overwritten=not torch.equal(first(added), seen["copy"]),
        outputs=len(added) if isinstance(added, tuple | list) else 0,
    )
    without = layer(lambda x, *_, run, **__: block.nothing(x))
    parallel = not torch.equal(without.reshape(x.shape), x)
    multiplier = _multiplier(block.layer, without, output, delta)
    if multiplier is None or (parallel and not _reads_layer_input(call, x, block)):
        raise refusal(model, block.index, "its feed-forward output is not simply added to the residual stream")
    return replace(block, multiplier=multiplier, parallel=parallel)


def collapsed(
    block: Block, replacement: Callable[..., Any], scope: object = True
) -> dict[nn.Module, Callable[..., Any]]:
    """Forwards for `patched` under which the whole FFN of a layer runs as one call, where its chain ends.

    Parameters
    ----------
    block
        The feed-forward block.
    replacement
        Called as ``replacement(x, *extra, run=run, **named)`` with the FFN's input x [..., hidden] and what the
        layer hands to the last module besides; ``run`` is the FFN itself.
    scope
        While it is false the modules do what they did before.
    """
    originals = [module.forward for module in block.chain]

    def run(x: Tensor, *extra: Any, **named: Any) -> Any:
        for forward in originals[:-1]:
            x = first(forward(x))
        return originals[-1](x, *extra, **named)

    def gated(inside: Callable[..., Any], outside: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **named: (inside if scope else outside)(*args, **named)

    insides: list[Callable[..., Any]] = [*[_pass_on] * (len(originals) - 1), partial(replacement, run=run)]
    return dict(zip(block.chain, map(gated, insides, originals), strict=True))


def _pass_on(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x


def _multiplier(layer: nn.Module, without: Tensor, output: Tensor, delta: Tensor) -> float | None:
    """The factor m of output = without + m * delta, or None where there is none."""
    delta, moved = delta.flatten().double(), (output.double() - without.double()).flatten()
    if not delta.any():
        return 1.0 if not moved.any() else None
    factor = float(moved @ delta / (delta @ delta))
    slack = 8 * torch.finfo(output.dtype).eps * float(output.double().abs().max())
    if float((moved - factor * delta).abs().max()) > slack:
        return None
    known = [1.0, *(value for value in vars(layer).values() if isinstance(value, float))]
    nearest = min(known, key=lambda value: abs(value - factor))
    return nearest if abs(nearest - factor) < 0.02 * abs(factor) else factor


def _reads_layer_input(call: Call, x: Tensor, block: Block) -> bool:
    """Whether the FFN's input x is the layer's input, or a norm of it that attention shares."""
    if same(x, call.input):
        return True
    with watched([child for child in block.layer.children() if child not in block.chain]) as calls:
        block.layer(*call.args, **call.named)
    return any(same(part.input, call.input) and torch.equal(part.output, x) for part in calls if not part.mixes)


def _adds(x: Tensor, part: Any, total: Tensor) -> bool:
    return torch.is_tensor(part) and part.shape == x.shape and torch.equal(x + part, total)
