"""`export`: writes a checkpoint without the blocks that a static policy skips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..policies import Policy
from . import decilm, gguf_deci
from .removable import layers_of


@dataclass(frozen=True)
class Exported:
    """The result of `export`.

    Attributes
    ----------
    path
        The folder in Hugging Face format, or the GGUF file.
    layers
        Numbers of the decoder layers, from 0, without a feed-forward block in the checkpoint.
    before, after
        Bytes of weights in the dense checkpoint and in the written one.
    serve
        The command that serves it.
    """

    path: Path
    layers: tuple[int, ...]
    before: int
    after: int
    serve: str

    def __str__(self) -> str:
        named = ", ".join(map(str, self.layers)) or "none"
        return (
            f"{self.path}: layers without FFN: {named}; {self.after / self.before:.1%} of the bytes of weights\n"
            f"serve it with: {self.serve}"
        )


def export(
    model: PreTrainedModel | str | Path, policy: Policy | None = None, out: str | Path = "", *, tokenizer: Any = None
) -> Exported:
    """Write a checkpoint without the feed-forward blocks that a static policy skips.

    A model of transformers becomes a folder in the layout of DeciLM (Nemotron-NAS), which vLLM reads, and
    transformers with ``trust_remote_code=True``. Where no block is left out and all have one width, it is an ordinary
    checkpoint of its own architecture. A GGUF file becomes a GGUF file of the architecture `deci`, which llama.cpp
    reads; what stays in it is copied as it is, quantised or not.

    Parameters
    ----------
    model
        A LLaMA model, also one whose neurons were pruned to a width of its own for each layer; or the path of a GGUF
        file of the architecture `llama`.
    policy
        A StaticFFN that skips every token alike: ``StaticFFN(layers, sink=0)``. An engine knows no attention sink,
        no prefill and no token at which a block might be needed after all. None: the model as it is.
    out
        A folder that does not exist yet, or a name that ends in .gguf.
    tokenizer
        Saved beside a model of transformers.

    Returns
    -------
    Exported

    Raises
    ------
    ValueError
        For a policy that adapts or spares tokens, a layer that the model does not have, or an invalid name for `out`.
    UnsupportedModel
        For an architecture that the engine's layout cannot hold.
    FileExistsError
        Where the folder exists.
    OSError
        Where `out` cannot be written; nothing is left there.
    """
    out = Path(out)
    layers = layers_of(policy)
    if isinstance(model, str | Path):
        if out.suffix != ".gguf":
            raise ValueError(f"expected a name that ends in .gguf for what a GGUF file becomes, got {str(out)!r}")
        before, after = gguf_deci.write(Path(model), layers, out)
        return Exported(out, layers, before, after, f"llama-server -m {out}")
    if not out.name or out.suffix == ".gguf":
        raise ValueError(
            f"expected a folder for a model of transformers, got {str(out)!r}; name one, or give the path of a GGUF "
            "file in the model's place (llama.cpp's convert_hf_to_gguf.py makes one of a folder)"
        )
    before, after = decilm.write(model, layers, out, tokenizer)
    return Exported(out, layers, before, after, f"vllm serve {out} --trust-remote-code")
