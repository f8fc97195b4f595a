"""Watch a forward pass and change nothing: `record` texts, or `watch` whatever the caller runs."""

from .assembling import end_ids, tokens_of
from .stream import Rows, Stream
from .texts import Text, context, encode, padded, record
from .watching import Recorder, listeners, watch

__all__ = [
    "Recorder",
    "Rows",
    "Stream",
    "Text",
    "context",
    "encode",
    "end_ids",
    "listeners",
    "padded",
    "record",
    "tokens_of",
    "watch",
]
