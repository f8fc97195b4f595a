"""Feed-forward blocks with branches, whose outputs are added: experts beside a shared expert.

Some layers compute the FFN in several children, add the outputs of two, and may norm the sum. The traced calls show
which child reads what, so that the whole block can run as one piece.
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
    """The source of an argument: the sum of outputs of earlier steps, or the residual stream."""

    steps: tuple[int, ...]  # empty for the residual stream
    part: int | None  # index of the tensor, for a step that returns several
    flat: bool  # whether batch and token are one axis


@dataclass(frozen=True, eq=False)
class Step:
    """One module of a block with branches, and its inputs."""

    module: nn.Module
    args: tuple[Any, ...]
    named: Mapping[str, Any]
    parts: int  # length of the returned tuple; 0 where it returns one tensor


def branched(block: Block, calls: Sequence[Call]) -> Block | None:
    """Find the branches that are added to the chain of a block; None where there are none.

    Parameters
    ----------
    block
        The block with its heaviest chain only.
    calls
        Calls of the layer's children, in the order in which they ran.
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
    """Forwards that run a block with branches as one call of `replacement(x, run=run)` at the end of its chain.

    Modules before that pass the residual stream on, and branches beside the chain return zero.
    """
    forwards = {module: module.forward for module in block.modules}
    entered: list[Tensor] = []

    def enter(x: Tensor, *_: Any, **__: Any) -> Tensor:
        entered[:] = [x]
        return x

    def leave(given: Tensor, *_: Any, **__: Any) -> Any:
        x = entered.pop().reshape(given.shape) if entered else given  # `given` may be a copy plus zeros
        return replacement(x, run=partial(_run, block, forwards))

    parts = {step.module: step.parts for step in block.steps}
    return {
        **{module: partial(_zero, parts[module]) for module in block.beside},
        **dict.fromkeys(block.chain, pass_on),
        block.chain[0]: enter,
        block.chain[-1]: leave,
    }


def pass_on(x: Tensor, *_: Any, **__: Any) -> Tensor:
    """The output of a left-out module: its input."""
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
    """The output of a block with branches for x [..., hidden]; calls `seen` as in `collapsed`, with the ends as one."""
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
    """The call whose output is added to the end: of the same size, and not read by any other module."""
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
    """Finds the steps from the residual stream to the ends of a block, in the order in which they are needed."""

    def __init__(self, x: Tensor, calls: Sequence[Call]) -> None:
        self.x, self.calls = x, calls
        self.steps: list[Step] = []
        self._number: dict[Call, int] = {}

    def step(self, call: Call) -> bool:
        """Add a call and all its inputs; False where an input does not come from the residual stream."""
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
        """The source of an argument; None where it is unknown."""
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
