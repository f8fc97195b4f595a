"""A checkpoint becomes a model and a tokenizer. The only room that may touch the network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
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
        An unknown or gated model, missing files, weights that are not safetensors: with what to do about it.
    """
    source = _source(name)
    if device is None and device_map is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype is None:
        dtype = torch.float32 if device is not None and torch.device(device).type == "cpu" else "auto"
    shared = {"revision": revision, "trust_remote_code": trust_remote_code}
    local = Path(source).is_dir()
    if str(name) == "demo":
        verify(Path(source))
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local, **shared)
        with _without_bar() if str(name) == "demo" else nullcontext():
            model: Any = AutoModelForCausalLM.from_pretrained(
                source,
                dtype=dtype,
                device_map=device_map,
                use_safetensors=None if allow_pickle else True,
                local_files_only=local,
                **shared,
            )
    except (OSError, ValueError) as error:
        raise LoadingError(_advice(str(name), error)) from error
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
    """
    if isinstance(source, PreTrainedModel):
        config, dtype, device = source.config, source.dtype, source.device
    else:
        config, dtype, device = AutoConfig.from_pretrained(_source(source)), torch.float32, torch.device("cpu")
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


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain
