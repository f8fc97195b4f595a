"""Many runs, one table: policies x tasks x seeds, each cell kept on disk, so that a killed sweep goes on."""

from .cell_keys import fingerprint, verify
from .sweeping import sweep

__all__ = ["fingerprint", "sweep", "verify"]
