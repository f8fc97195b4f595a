"""Variants of the same work, timed in turns, so that a slow moment of the machine hits all of them."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import pandas as pd
import torch


def interleave(variants: dict[str, Callable[[], object]], rounds: int) -> pd.DataFrame:
    """Seconds of every variant in every round, [round, variant]; each second round runs in reverse order.

    A variant that returns a float has timed itself: the seconds of the part that counts.
    """
    for work in variants.values():
        work()  # warm-up, not timed
    settle()
    rows = []
    for number in range(rounds):
        order = list(variants) if number % 2 == 0 else list(variants)[::-1]
        row = {}
        for name in order:
            began = time.perf_counter()
            own = variants[name]()
            settle()
            row[name] = own if isinstance(own, float) else time.perf_counter() - began
        rows.append(row)
    return pd.DataFrame(rows)[list(variants)]


def settle() -> None:
    """Wait for what a GPU still has to do."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def quartiles(ratio: pd.Series) -> tuple[float, float, float]:
    """Median and the two quartiles."""
    low, middle, high = np.quantile(ratio, [0.25, 0.5, 0.75])
    return float(middle), float(low), float(high)


def machine(device: torch.device | None = None) -> str:
    """What the numbers were measured on."""
    model = (
        next(
            (line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),  # noqa: SIM115, PTH123
            platform.processor(),
        )
        if platform.system() == "Linux"
        else platform.processor()
    )
    if device is not None and device.type == "cuda":
        model = f"{torch.cuda.get_device_name(device)} (CUDA {torch.version.cuda}) beside {model}"
    return (
        f"{model}, {torch.get_num_threads()} threads; Python {platform.python_version()}, "
        f"torch {version('torch')}, transformers {version('transformers')}"
    )
