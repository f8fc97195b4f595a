"""The command `saturation`."""

from . import drawing as drawing
from . import sweeping as sweeping
from .app import app

__all__ = ["app"]
