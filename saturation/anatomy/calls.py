"""Recorded calls of modules during a forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..patching import Hooks
from .blocks import first

MIXES_TOKENS = ("cache", "past", "mask", "position", "alibi", "state")  # parts of the names of attention's arguments


@dataclass(eq=False)
class Call:
    """One call of a module: its arguments, by position and by name, and its output tensor."""

    module: nn.Module
    args: tuple[Any, ...]
    named: dict[str, Any]
    output: Any = None
    whole: Any = None  # the whole output, where the module returns several tensors

    @property
    def input(self) -> Any:
        """The first argument."""
        return self.args[0] if self.args else self.named.get("hidden_states")

    @property
    def mixes(self) -> bool:
        """Whether it gets arguments that only a module that mixes tokens needs."""
        names = [name for name in self.named if name != "hidden_states"]
        return any(mark in name for name in names for mark in MIXES_TOKENS)


@contextmanager
def watched(modules: list[nn.Module]) -> Iterator[list[Call]]:
    """Record every call of the modules, in the order in which they finish."""
    calls: list[Call] = []

    def keep(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        calls.append(Call(module, args, named, first(output), output))

    hooks = Hooks()
    with hooks.held():
        for module in modules:
            hooks.after(module, keep)
        yield calls


def same(one: Any, other: Any) -> bool:
    """Whether two tensors share the same memory, also as views."""
    if not (torch.is_tensor(one) and torch.is_tensor(other)):
        return False
    return one.data_ptr() == other.data_ptr() and one.numel() == other.numel()
