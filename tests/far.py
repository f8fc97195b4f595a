"""A device of tests' own, far away: it computes on the CPU, and counts whatever crosses between it and the host.

On the CPU nothing crosses, so that nothing could be counted there: `numpy()` of a tensor is no operation at all. Here a
tensor only says that it lies on the device "far", and its numbers are in the hands of the one who counts.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_READS = ("_local_scalar_dense", "equal", "is_nonzero")  # operations that give the host a number
_MODES: list[Crossings] = []


class Far(Tensor):
    """A tensor on the far device; `held` has its numbers."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> Far:
        made = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device("far:0"),
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class Crossings(TorchDispatchMode):
    """Operations that brought numbers to the host (`down`) or away from it (`up`), in order, while it was entered."""

    def __init__(self) -> None:
        super().__init__()
        self.down: list[str] = []
        self.up: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation on what the tensors hold; its results lie where they would."""
    tensors = [one for one in _flat((*args, *kwargs.values())) if isinstance(one, Tensor)]
    there = any(isinstance(one, Far) for one in tensors)
    wanted = kwargs.get("device")
    there_then = there if wanted is None else torch.device(wanted).type == "far"
    if not there and not there_then:
        return func(*args, **kwargs)
    if wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    result = func(*map(_near, args), **{name: _near(value) for name, value in kwargs.items()})
    name = func.overloadpacket.__name__
    if name == "copy_" and isinstance(args[0], Far) != isinstance(args[1], Far):
        _count(name, down=isinstance(args[1], Far))
        return args[0]
    if name in _READS or (there and not there_then):
        _count(name, down=True)
        return result
    if tensors and not there:
        _count(name, down=False)
    if func._schema.is_mutable and isinstance(result, Tensor):
        return args[0]
    return _far(result)


def _flat(given: Any) -> Iterator[Any]:
    for one in given:
        if isinstance(one, tuple | list):
            yield from _flat(one)
        else:
            yield one


def _near(given: Any) -> Any:
    """An argument with the numbers of its tensors."""
    if isinstance(given, tuple | list):
        return type(given)(map(_near, given))
    return given.held if isinstance(given, Far) else given


def _far(given: Any) -> Any:
    """A result whose tensors lie far away."""
    if isinstance(given, tuple | list):
        return type(given)(map(_far, given))
    return Far(given) if isinstance(given, Tensor) else given


def _count(name: str, *, down: bool) -> None:
    for mode in _MODES:
        (mode.down if down else mode.up).append(name)


@contextmanager
def crossings() -> Iterator[Crossings]:
    """Count what crosses inside the block."""
    if not hasattr(torch, "far"):
        _setup_privateuseone_for_python_backend("far")
    lifts = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="far") is a copy that can be seen
    mode = Crossings()
    _MODES.append(mode)
    try:
        with mode, torch.no_grad():
            yield mode
    finally:
        _MODES.remove(mode)
        torch._C._set_only_lift_cpu_tensors(lifts)


def moved(model: nn.Module) -> nn.Module:
    """A copy of a model that lies on the far device."""
    model = copy.deepcopy(model).requires_grad_(False)
    with crossings():
        for module in model.modules():
            for held in (module._parameters, module._buffers):
                for name, tensor in held.items():
                    if tensor is not None:
                        held[name] = Far(tensor.detach())
    return model
