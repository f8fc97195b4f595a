"""Watch a forward pass and change nothing: `record` texts, or `watch` whatever the caller runs."""

from .stream import Rows, Stream
from .texts import encode, record
from .watching import Recorder, watch, watching

__all__ = ["Recorder", "Rows", "Stream", "encode", "record", "watch", "watching"]
