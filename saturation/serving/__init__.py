"""Serving: checkpoints without the skipped feed-forward blocks, or with narrow ones, for vLLM and llama.cpp."""

from __future__ import annotations

from .exporting import Exported, export

__all__ = ["Exported", "export"]
