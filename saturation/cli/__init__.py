"""The command `saturation`: the library's verbs for the shell."""

from .app import app

__all__ = ["app"]
