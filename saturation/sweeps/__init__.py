"""Sweeps: many runs in one table, policies x tasks x seeds; each cell is stored on disk, so a sweep can resume."""

from .cell_keys import fingerprint, verify
from .sweeping import sweep

__all__ = ["fingerprint", "sweep", "verify"]
