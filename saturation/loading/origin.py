"""Where a model came from, so that another program can make it again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from transformers import PreTrainedModel

from ..anatomy import unwrapped
from ..atomic import located
from .registry import MODELS

BUNDLED = "demo"
_ON_HUB = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True)
class Origin:
    """What makes a model again; it cannot know what was done to the model since.

    Attributes
    ----------
    name
        For `load`; of a file or folder the full path, since another program stands elsewhere.
    options
        Of `load`, those that were given.
    seed
        Of its weights, where it is `untrained`.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None


_ORIGINS: WeakKeyDictionary[PreTrainedModel, Origin] = WeakKeyDictionary()


def remember(model: PreTrainedModel, origin: Origin | None) -> None:
    """Keep where a model came from as long as it lives."""
    if origin is not None:
        _ORIGINS[model] = origin


def origin(model: Any) -> Origin | None:
    """Where a model came from: as `load` and `untrained` know it, else by the name in its configuration.

    Parameters
    ----------
    model
        A model, or a module around one.

    Returns
    -------
    Origin or None
        None for a model that was made in memory: no name or path says how to make it again.
    """
    inner = unwrapped(model)
    return _ORIGINS.get(inner) or _by_name(str(getattr(inner.config, "_name_or_path", "") or ""))


def full(name: str) -> str:
    """A name for `load`, a path of this machine in full."""
    if name == BUNDLED or name in MODELS:
        return name
    path = located(name)
    return str(path.absolute()) if path.exists() else name


def _by_name(name: str) -> Origin | None:
    """What a configuration's name says: a path that is there, a plain name, or "owner/name" of the hub."""
    known = name == BUNDLED or name in MODELS or _ON_HUB.fullmatch(name)
    try:
        return Origin(full(name)) if known or (name and located(name).exists()) else None
    except ValueError:  # no path at all
        return None
