"""Loading: a model and its tokenizer from a checkpoint, a GGUF file or a name. Only this room may use the network."""

from .bundled import DEMO, verify
from .errors import LoadingError
from .fetching import cache, cached, fetch, fetch_gguf
from .gguf_header import read as gguf_header
from .opening import config_of, load, untrained
from .origin import Origin, origin
from .registry import MODELS

__all__ = [
    "DEMO",
    "MODELS",
    "LoadingError",
    "Origin",
    "cache",
    "cached",
    "config_of",
    "fetch",
    "fetch_gguf",
    "gguf_header",
    "load",
    "origin",
    "untrained",
    "verify",
]
