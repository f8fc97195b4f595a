"""Watch a forward pass and change nothing: `record` texts, or `watch` whatever the caller runs."""

from .assembling import called, described, end_ids, tokens_of
from .decode_loop import greedy, padded, steps
from .residual_stream import streams
from .running_pass import ends
from .texts import Text, context, encode, record
from .token_rows import Rows, not_run
from .token_stream import Stream, by_name
from .watching import Recorder, listeners, watch

__all__ = [
    "Recorder",
    "Rows",
    "Stream",
    "Text",
    "by_name",
    "called",
    "context",
    "described",
    "encode",
    "end_ids",
    "ends",
    "greedy",
    "listeners",
    "not_run",
    "padded",
    "record",
    "steps",
    "streams",
    "tokens_of",
    "watch",
]
