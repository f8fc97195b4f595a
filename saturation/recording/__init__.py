"""Watch a forward pass and change nothing: `record` texts, or `watch` whatever the caller runs."""

from .assembling import end_ids, tokens_of
from .decoding import greedy, padded, steps
from .stream import Rows, Stream, by_name
from .texts import Text, context, encode, record
from .watching import Recorder, listeners, watch

__all__ = [
    "Recorder",
    "Rows",
    "Stream",
    "Text",
    "by_name",
    "context",
    "encode",
    "end_ids",
    "greedy",
    "listeners",
    "padded",
    "record",
    "steps",
    "tokens_of",
    "watch",
]
