"""The origin of a model, from which another program can load it again."""

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
    """The arguments that load a model again; later changes to the model are unknown.

    Attributes
    ----------
    name
        Name for `load`; a full path for a file or folder, since another program may run elsewhere.
    options
        Options that were given to `load`.
    seed
        Seed of the weights of an `untrained` model.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None


_ORIGINS: WeakKeyDictionary[PreTrainedModel, Origin] = WeakKeyDictionary()


def remember(model: PreTrainedModel, origin: Origin | None) -> None:
    """Remember the origin of a model as long as the model exists."""
    if origin is not None:
        _ORIGINS[model] = origin


def origin(model: Any) -> Origin | None:
    """The origin of a model: as `load` and `untrained` remember it, else by the name in its configuration.

    Parameters
    ----------
    model
        A model, or a wrapper of one.

    Returns
    -------
    Origin or None
        None for a model that was made in memory and has no name or path.
    """
    inner = unwrapped(model)
    return _ORIGINS.get(inner) or _by_name(str(getattr(inner.config, "_name_or_path", "") or ""))


def full(name: str) -> str:
    """A name for `load`, with a local path in full."""
    if name == BUNDLED or name in MODELS:
        return name
    path = located(name)
    return str(path.absolute()) if path.exists() else name


def _by_name(name: str) -> Origin | None:
    """The origin by the configuration's name: an existing path, a plain name, or "owner/name" of the hub."""
    known = name == BUNDLED or name in MODELS or _ON_HUB.fullmatch(name)
    try:
        return Origin(full(name)) if known or (name and located(name).exists()) else None
    except ValueError:  # not a valid path
        return None
