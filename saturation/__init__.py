"""Measure which feed-forward blocks of a language model are saturated, and what skipping them costs.

This page is the map: a room imports only rooms above it, never one below. tests/test_map.py reads it::

    words        trace        what was measured: one row per token, one column per layer
                 policies     which blocks to skip, decided from numbers alone
    model        similarity   the measure itself, in plain torch
                 patching     change forwards or hook modules for a while, and put back what stood there
                 anatomy      where the FFN sits in a decoder layer, found by tracing one forward
                 loading      a checkpoint becomes a model and a tokenizer, from a folder or over the network
                 recording    watch a forward pass and change nothing
                 skipping     run with blocks left out, then put everything back
                 generation   decode text, dense or skipping
    experiments  tasks        prompts with references: bundled, JSON lines, published files, or the hub
                 quality      scores of a run, and how far it drifted from the dense one
                 sweeps       many runs -> one table, kept on disk cell by cell
                 harness      the tasks and numbers of lm-evaluation-harness, dense or skipping
    faces        figures      a Trace or a table becomes a figure fit for a paper
                 widgets      a Trace under the hand: sliders and canvases for Jupyter
                 cli          the command `saturation`

Words need no torch: a Trace opens, replays and draws without it. Importing `saturation` is silent and loads
nothing; a name brings its room the first time it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import anatomy as anatomy
    from . import cli as cli
    from . import figures as figures
    from . import generation as generation
    from . import harness as harness
    from . import loading as loading
    from . import patching as patching
    from . import policies as policies
    from . import quality as quality
    from . import recording as recording
    from . import similarity as similarity
    from . import skipping as skipping
    from . import sweeps as sweeps
    from . import tasks as tasks
    from . import trace as trace
    from . import widgets as widgets
    from .generation import generate as generate
    from .loading import load as load
    from .loading import untrained as untrained
    from .policies import FFNSkip as FFNSkip
    from .policies import RandomFFN as RandomFFN
    from .policies import StaticFFN as StaticFFN
    from .policies import replay as replay
    from .recording import record as record
    from .skipping import skip as skip
    from .sweeps import sweep as sweep
    from .trace import Trace as Trace

__version__ = "0.1.0"

_ROOMS = {  # room -> the names it lends to `saturation`
    "trace": ("Trace",),
    "policies": ("FFNSkip", "RandomFFN", "StaticFFN", "replay"),
    "similarity": (),
    "patching": (),
    "anatomy": (),
    "loading": ("load", "untrained"),
    "recording": ("record",),
    "skipping": ("skip",),
    "generation": ("generate",),
    "tasks": (),
    "quality": (),
    "sweeps": ("sweep",),
    "harness": (),
    "figures": (),
    "widgets": (),
    "cli": (),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    rooms, names = ", ".join(_ROOMS), ", ".join(_HOMES)
    raise AttributeError(f"saturation has no attribute {name!r}; it has the rooms {rooms} and the names {names}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS, *_HOMES])
