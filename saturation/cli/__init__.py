"""The command `saturation`."""

from . import sweeping as sweeping
from .app import app

__all__ = ["app"]
