"""Measure which feed-forward blocks of a language model are saturated, and what skipping them costs.

This page is the map: a room imports only rooms above it, never one below. tests/test_map.py reads it::

    words        atomic       files written whole or not at all
                 trace        what was measured: one row per token, one column per layer
                 policies     which blocks or layers to skip, decided from numbers alone
                 progress     how far long work has come: bars, and lines where a bar cannot be seen
    model        similarity   the measure itself, in plain torch
                 patching     change forwards or hook modules for a while, and put back what stood there
                 anatomy      where the FFN sits in a decoder layer, found by tracing one forward
                 loading      a checkpoint, a GGUF file or a named model becomes a model and a tokenizer
                 recording    watch a forward pass and change nothing
                 skipping     run with blocks left out, then put everything back
                 ablation     leave one block out and measure what that does to the next token
                 generation   decode text, dense or skipping
                 pruning      remove weights for good; which neurons matter, and what stands in for a block
                 serving      checkpoints without the skipped blocks, for vLLM and llama.cpp
    experiments  tasks        prompts with references: bundled, JSON lines, published files, or the hub
                 quality      scores of a run, and how far it drifted from the dense one
                 calibration  texts to compute thresholds and pruning scores on, an equal budget of each source
                 sweeps       many runs -> one table, kept on disk cell by cell
                 tuning       one table -> one setting, plainly or with a guarantee
                 study        which calibration data keeps what, for pruning and for skipping
                 harness      the tasks and numbers of lm-evaluation-harness, dense or skipping
    faces        figures      a Trace or a table becomes a figure fit for a paper
                 widgets      sliders and canvases for Jupyter, to threshold and read a Trace
                 cli          the command `saturation`

Words need no torch: a Trace opens, replays and draws without it. Importing `saturation` is silent and loads
nothing; a name brings its room the first time it is used.
"""

from __future__ import annotations

from importlib import import_module
from logging import DEBUG, LogRecord, getLogger
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import ablation as ablation
    from . import anatomy as anatomy
    from . import atomic as atomic
    from . import calibration as calibration
    from . import cli as cli
    from . import figures as figures
    from . import generation as generation
    from . import harness as harness
    from . import loading as loading
    from . import patching as patching
    from . import policies as policies
    from . import progress as progress
    from . import pruning as pruning
    from . import quality as quality
    from . import recording as recording
    from . import serving as serving
    from . import similarity as similarity
    from . import skipping as skipping
    from . import study as study
    from . import sweeps as sweeps
    from . import tasks as tasks
    from . import trace as trace
    from . import tuning as tuning
    from . import widgets as widgets
    from .ablation import harm as harm
    from .generation import generate as generate
    from .loading import load as load
    from .loading import untrained as untrained
    from .policies import EarlyExit as EarlyExit
    from .policies import FFNSkip as FFNSkip
    from .policies import RandomFFN as RandomFFN
    from .policies import RandomLayers as RandomLayers
    from .policies import RoutedFFN as RoutedFFN
    from .policies import SkipDecode as SkipDecode
    from .policies import StaticAttention as StaticAttention
    from .policies import StaticFFN as StaticFFN
    from .policies import StaticLayers as StaticLayers
    from .policies import TokenFFN as TokenFFN
    from .policies import UnifiedLayers as UnifiedLayers
    from .policies import replay as replay
    from .pruning import narrow as narrow
    from .pruning import prune as prune
    from .pruning import stand_in as stand_in
    from .recording import record as record
    from .serving import export as export
    from .skipping import skip as skip
    from .sweeps import sweep as sweep
    from .trace import Harm as Harm
    from .trace import Trace as Trace
    from .tuning import Tuned as Tuned
    from .tuning import tune as tune

__version__ = "0.1.0"

_ROOMS = {  # room -> the names it lends to `saturation`
    "atomic": (),
    "trace": ("Harm", "Trace"),
    "policies": (
        "EarlyExit",
        "FFNSkip",
        "RandomFFN",
        "RandomLayers",
        "RoutedFFN",
        "SkipDecode",
        "StaticAttention",
        "StaticFFN",
        "StaticLayers",
        "TokenFFN",
        "UnifiedLayers",
        "replay",
    ),
    "progress": (),
    "similarity": (),
    "patching": (),
    "anatomy": (),
    "loading": ("load", "untrained"),
    "recording": ("record",),
    "skipping": ("skip",),
    "ablation": ("harm",),
    "generation": ("generate",),
    "pruning": ("narrow", "prune", "stand_in"),
    "serving": ("export",),
    "tasks": (),
    "quality": (),
    "calibration": (),
    "sweeps": ("sweep",),
    "tuning": ("Tuned", "tune"),
    "study": (),
    "harness": (),
    "figures": (),
    "widgets": (),
    "cli": (),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}


def _of_the_run(record: LogRecord) -> bool:
    """False for what torchao, where it is installed, says of kernels that are not for this machine.

    transformers imports torchao with every model. The lines are kept where the logger is set to DEBUG.
    """
    chatter = ("Failed to load ", "<enum ")
    return not record.getMessage().startswith(chatter) or getLogger(record.name).isEnabledFor(DEBUG)


for _name in ("torchao", "torch.utils._pytree"):
    getLogger(_name).addFilter(_of_the_run)


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    rooms, names = ", ".join(_ROOMS), ", ".join(_HOMES)
    raise AttributeError(f"saturation has no attribute {name!r}; it has the rooms {rooms} and the names {names}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS, *_HOMES])
