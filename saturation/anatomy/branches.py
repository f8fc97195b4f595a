"""Feed-forward blocks of several branches: experts beside a shared one, whose outputs are added.

A layer that computes its FFN in several of its children joins them itself: it adds the outputs of two, and may norm
the sum. Which child reads what is seen in the traced calls, so that the whole can be run as one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .blocks import Block, first
from .calls import Call, same


class Read(NamedTuple):
    """Where an argument comes from: outputs of earlier steps that are added, or the residual stream."""

    steps: tuple[int, ...]  # none for the residual stream
    part: int | None  # of a step that returns several tensors
    flat: bool  # whether its tokens are in one row


@dataclass(frozen=True, eq=False)
class Step:
    """One module of a block with branches, and what it reads."""

    module: nn.Module
    args: tuple[Any, ...]
    named: Mapping[str, Any]
    parts: int  # length of the tuple that it returns; 0 where it is one tensor


def branched(block: Block, calls: Sequence[Call]) -> Block | None:
    """The block with the branches that are added to its chain, or None where there are none.

    Parameters
    ----------
    block
        As its heaviest chain alone would have it.
    calls
        Of the layer's children, in the order in which they ran.
    """
    by_module = {call.module: call for call in calls}
    chain = [by_module[module] for module in block.chain]
    free = [call for call in calls if not call.mixes and torch.is_tensor(call.input) and torch.is_tensor(call.output)]
    if (other := _beside(chain[-1], free, calls)) is None:
        return None
    while before := next((call for call in free if same(call.output, chain[0].input)), None):  # the norm of all
        chain.insert(0, before)
    ends = [chain[-1], other]
    if join := next((call for call in free if _is_sum(call.input, *ends)), None):
        chain.append(join)
        ends = [join]
    seen = _StepFinder(chain[0].input, calls)
    if not all(map(seen.step, sorted(ends, key=calls.index))):
        return None
    steps = tuple(seen.steps)
    beside = tuple(step.module for step in steps if not any(step.module is call.module for call in chain))
    return replace(
        block,
        chain=tuple(call.module for call in chain),
        source=chain[-1].module,
        steps=steps,
        beside=beside,
        summed=tuple(end.module for end in ends[1:]),
    )


def joined(block: Block, replacement: Callable[..., Any]) -> dict[nn.Module, Callable[..., Any]]:
    """Forwards under which a block with branches runs as one call of `replacement(x, run=run)`, where its chain ends.

    What runs before that hands the residual stream on, and the branches beside the chain give zero.
    """
    forwards = {module: module.forward for module in block.modules}
    entered: list[Tensor] = []

    def enter(x: Tensor, *_: Any, **__: Any) -> Tensor:
        entered[:] = [x]
        return x

    def leave(given: Tensor, *_: Any, **__: Any) -> Any:
        x = entered.pop().reshape(given.shape) if entered else given  # the layer may have added zeros to a copy
        return replacement(x, run=partial(_run, block, forwards))

    parts = {step.module: step.parts for step in block.steps}
    return {
        **{module: partial(_zero, parts[module]) for module in block.beside},
        **dict.fromkeys(block.chain, pass_on),
        block.chain[0]: enter,
        block.chain[-1]: leave,
    }


def pass_on(x: Tensor, *_: Any, **__: Any) -> Tensor:
    """What a module gives that is left out: its input."""
    return x


def _zero(parts: int, x: Tensor, *_: Any, **__: Any) -> Any:
    nothing = torch.zeros_like(x)
    return (nothing,) * parts if parts else nothing


def _run(
    block: Block,
    forwards: Mapping[nn.Module, Callable[..., Any]],
    x: Tensor,
    seen: Callable[..., None] | None = None,
) -> Tensor:
    """What a block with branches adds to x [..., hidden]; `seen` is called as `collapsed` says, of the ends as one."""
    outputs: list[Any] = []

    def value(given: Any) -> Any:
        if not isinstance(given, Read):
            return given
        parts = [_part(outputs[step], given.part) for step in given.steps]
        tensor = torch.add(*parts) if len(parts) == 2 else parts[0] if parts else x
        return tensor.reshape(-1, tensor.shape[-1]) if given.flat else tensor.reshape(*x.shape[:-1], -1)

    ends: list[Tensor] = []
    read: Any = None
    for step in block.steps:
        args = tuple(map(value, step.args))
        output = forwards[step.module](*args, **{name: value(given) for name, given in step.named.items()})
        outputs.append(output)
        if step.module in block.ends:
            ends.append(first(output).reshape(x.shape))
        if step.module is block.source:
            read = args[0]
        elif seen is not None:
            seen(step.module, args[0], first(output))
    total = torch.add(*ends) if len(ends) == 2 else ends[0]
    if seen is not None:
        seen(block.source, read, total)
    return total


def _part(output: Any, part: int | None) -> Tensor:
    return first(output) if part is None else output[part]


def _is_sum(tensor: Any, one: Call, other: Call) -> bool:
    parts = (one.output, other.output)
    if not torch.is_tensor(tensor) or any(part.numel() != tensor.numel() for part in parts):
        return False
    one_, other_ = (part.reshape(tensor.shape) for part in parts)
    return torch.equal(one_ + other_, tensor)


def _beside(end: Call, free: Sequence[Call], calls: Sequence[Call]) -> Call | None:
    """The other call that nobody reads by itself, and whose output is of the same size: what is added to the end."""
    read = [argument for call in calls for argument in (*call.args, *call.named.values()) if torch.is_tensor(argument)]
    found = [
        call
        for call in free
        if call is not end
        and call.output.numel() == end.output.numel()
        and not any(same(call.output, argument) for argument in read)
        and not any(call.output is part for part in read)
    ]
    summed = [call for call in found if any(_is_sum(reader.input, end, call) for reader in free)]
    return next(iter(summed or [call for call in found if same(call.input, end.input)]), None)


class _StepFinder:
    """The steps from the residual stream to the ends of a block, in the order in which they are first needed."""

    def __init__(self, x: Tensor, calls: Sequence[Call]) -> None:
        self.x, self.calls = x, calls
        self.steps: list[Step] = []
        self._number: dict[Call, int] = {}

    def step(self, call: Call) -> bool:
        """Take down a call and all that it reads; False where that is more than the residual stream gives."""
        if call in self._number:
            return True
        if call.mixes:
            return False
        args = [self._read(argument) for argument in call.args]
        named = {name: self._read(argument) for name, argument in call.named.items()}
        if any(given is None for given in (*args, *named.values())):
            return False
        keep = [None if given is _NONE else given for given in args]
        kept = {name: None if given is _NONE else given for name, given in named.items()}
        self._number[call] = len(self.steps)
        parts = len(call.whole) if isinstance(call.whole, tuple | list) else 0
        self.steps.append(Step(call.module, tuple(keep), kept, parts))
        return True

    def _read(self, argument: Any) -> Any:
        """Where an argument comes from; None where that is not seen."""
        if not torch.is_tensor(argument):
            return _NONE if argument is None else argument
        flat = argument.ndim == 2
        if same(argument, self.x):
            return Read((), None, flat)
        for call in self.calls:
            whole = call.whole if isinstance(call.whole, tuple | list) else (call.whole,)
            for part, tensor in enumerate(whole):
                if same(argument, tensor) and self.step(call):
                    return Read((self._number[call],), part if len(whole) > 1 else None, flat)
        free = [call for call in self.calls if not call.mixes and torch.is_tensor(call.output)]
        for place, one in enumerate(free):
            for other in free[place + 1 :]:
                if _is_sum(argument, one, other) and self.step(one) and self.step(other):
                    return Read((self._number[one], self._number[other]), None, flat)
        return None


_NONE = object()
