"""Checkpoints in which feed-forward blocks are really gone, or really narrow, for vLLM and llama.cpp."""

from __future__ import annotations

from .exporting import Exported, export

__all__ = ["Exported", "export"]
