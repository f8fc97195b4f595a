"""A checkpoint becomes a model and a tokenizer. The only room that may touch the network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

DEMO = Path(__file__).resolve().parents[1] / "data" / "demo-model"


class LoadingError(OSError):
    """A model could not be loaded; the message says what helps."""


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
    """Load a causal language model and its tokenizer, ready to measure: in eval mode, without gradients.

    Parameters
    ----------
    name
        "demo" for the bundled model, a folder in Hugging Face format, or the id of a model on the hub.
    dtype
        Such as torch.bfloat16 or "auto". None: float32 on a CPU, the checkpoint's own type elsewhere.
    device
        Where the model goes, such as "cuda". None: the GPU where there is one, else the CPU.
    device_map
        Given to transformers instead of `device`, such as "auto" to spread a model over several GPUs.
    revision
        Branch, tag or commit on the hub.
    trust_remote_code
        True runs model code that comes with the checkpoint. Only for sources you trust.
    allow_pickle
        True accepts weights that are not safetensors; unpickling them can run code.

    Returns
    -------
    model, tokenizer

    Raises
    ------
    LoadingError
        An unknown or gated model, missing or damaged files, weights that are not safetensors or not all there, a
        device that this machine lacks: with what to do about it.
    """
    source = _source(name)
    local = Path(source).is_dir()
    _check(name, device, dtype, revision if local else None)
    if device is None and device_map is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype is None:
        dtype = torch.float32 if device is not None and torch.device(device).type == "cpu" else "auto"
    shared = {"revision": revision, "trust_remote_code": trust_remote_code}
    if str(name) == "demo":
        verify(Path(source))
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local, **shared)
        with _without_bar() if str(name) == "demo" else nullcontext():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # named in what is found
                dtype=dtype,
                device_map=device_map,
                use_safetensors=None if allow_pickle else True,
                local_files_only=local,
                **shared,
            )
    except (OSError, ValueError, SafetensorError) as error:
        raise LoadingError(_advice(str(name), error)) from error
    model, found = loaded
    _all_there(str(name), found)
    if device_map is None:
        model.to(device=device)
    model.config._name_or_path = str(name)  # what a Trace calls the model; "demo" rather than a path of this machine
    return model.eval().requires_grad_(False), tokenizer


def untrained(source: PreTrainedModel | str | Path, *, seed: int | None = None) -> PreTrainedModel:
    """The same architecture before training: the control that shows what a saturation curve owes to training.

    Parameters
    ----------
    source
        A loaded model, or what `load` takes.
    seed
        Seed of the initial weights. None: the checkpoint's own `init_seed` where its config names it (the
        bundled model's does, so that these are the very weights its training began with), else 0.

    Returns
    -------
    PreTrainedModel
        In eval mode, with the type and device of a given model, else float32 on the CPU.

    Raises
    ------
    LoadingError
        As for `load`.
    """
    if isinstance(source, PreTrainedModel):
        config, dtype, device = source.config, source.dtype, source.device
    else:
        try:
            config = AutoConfig.from_pretrained(_source(source))
        except (OSError, ValueError) as error:
            raise LoadingError(_advice(str(source), error)) from error
        dtype, device = torch.float32, torch.device("cpu")
        config._name_or_path = str(source)
    seed = getattr(config, "init_seed", 0) if seed is None else seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(deepcopy(config), dtype=torch.float32)
    model.config._name_or_path = f"{config._name_or_path or config.model_type}, untrained (seed {seed})"
    return model.to(device=device, dtype=dtype).eval().requires_grad_(False)


def _source(name: str | Path) -> str:
    if str(name) != "demo":
        return str(name)
    if not DEMO.is_dir():
        raise LoadingError(
            f"expected the bundled model in {DEMO}, but it is not there: it comes with a clone of the "
            "repository, not with the installed package; clone the repository and install it with "
            "'pip install -e .', or pass a folder or a hub id instead"
        )
    return str(DEMO)


def _check(name: str | Path, device: Any, dtype: Any, revision: str | None) -> None:
    """What is asked for can be had: a device of this machine, a type of weights, no revision of a folder."""
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


def _all_there(name: str, found: dict[str, Any]) -> None:
    """Raise LoadingError for weights that the checkpoint lacks; transformers fills them with random numbers."""
    lacking = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
    if lacking:
        raise LoadingError(
            f"expected all weights of the model in {name!r}, but {len(lacking)} are missing or of another shape than "
            f"its config.json says, such as {lacking[0]}; use the config.json that belongs to the weights, or get all "
            "of them"
        )


@contextmanager
def _without_bar() -> Iterator[None]:
    """Load without transformers' progress bar: the bundled model is there before the bar is drawn."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def verify(folder: Path) -> None:
    """Raise LoadingError for a file of the bundled model that is not as it was committed (SHA256SUMS)."""
    for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        digest, name = line.split()
        file = folder / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise LoadingError(
                f"expected the bundled model as it was committed, but {file} differs from its checksum in SHA256SUMS; "
                "restore it with 'git checkout -- data/demo-model'"
            )


def _advice(name: str, error: Exception) -> str:
    """One sentence: what was expected, what came, what to do."""
    text = " ".join(str(error).split())
    kinds = " ".join(type(e).__name__ for e in _causes(error))
    if isinstance(error, SafetensorError):
        return f"expected whole weights, but {_damaged(Path(name))} cannot be read ({text}); get that file again"
    if "GatedRepo" in kinds or "gated" in text.lower():
        return (
            f"expected access to {name!r}, but it is gated: ask for access on its page on the hub, then log in "
            "with 'hf auth login' or set HF_TOKEN, and try again"
        )
    if "trust_remote_code" in text:
        return (
            f"expected a model that transformers knows, but {name!r} brings its own code; read that code, "
            "then pass trust_remote_code=True if you trust it"
        )
    if "device_map" in text:
        return f"expected a device_map such as 'auto' or 'cpu', but: {text}; give another, or a device instead"
    if "safetensors" in text.lower():
        return (
            f"expected safetensors weights in {name!r}, found none; other formats can run code when they are "
            "opened: pass allow_pickle=True if you trust the source"
        )
    if "Unrecognized" in text or "model type" in text:
        return (
            f"expected a causal language model that this transformers knows, but {name!r} is not one ({text}); "
            "a newer transformers may know it"
        )
    if Path(name).exists():
        return f"expected a model in Hugging Face format in the folder {name!r}, but: {text}; check its files"
    return (
        f"expected 'demo', a folder, or the id of a model on the hub, got {name!r}, which is none of them or "
        "cannot be reached: check the spelling, the network, and for a private model HF_TOKEN"
    )


def _damaged(folder: Path) -> str:
    """The file of weights that cannot be opened."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt"):
                continue
        except SafetensorError:
            return str(path)
    return f"a file of {str(folder)!r}"


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain
