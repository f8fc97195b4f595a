"""Errors of loading, each as one sentence: what was expected, what came, what to do."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from .registry import MODELS


class LoadingError(OSError):
    """A model could not be loaded; the message says what to do."""


def advice(name: str, error: Exception) -> str:
    """Error message for an error of transformers or safetensors."""
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
        f"expected 'demo', a named model ({', '.join(MODELS)}), a folder, a GGUF file, or the id of a model on the "
        f"hub, got {name!r}, which is none of them or cannot be reached: check the spelling, the network, and for a "
        "private model HF_TOKEN"
    )


def _damaged(folder: Path) -> str:
    """The weight file that cannot be opened."""
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
