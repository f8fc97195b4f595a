"""The DeciLM layout (Nemotron-NAS): a LLaMA in which each layer may lack its FFN or have a width of its own.

vLLM reads it (`DeciLMForCausalLM`): `block_configs` gives `attention.n_heads_in_group`, `attention.no_op`, `ffn.no_op`
and `ffn.intermediate_size` of each layer. The two modules in `remote/` are saved beside the weights, so that vLLM and
transformers can read the configuration.
"""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import save_torch_state_dict
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedModel

from ..anatomy import UnsupportedModel, decoder_layers, quantised, stored, unwrapped
from .removable import within

_REMOTE = ("configuration_decilm.py", "modeling_decilm.py")
_NOT_SAID = ("_name_or_path", "matrix_shapes", "pruning", "transformers_version")


def write(model: PreTrainedModel, layers: tuple[int, ...], out: Path, tokenizer: Any) -> tuple[int, int]:
    """Write the folder, whole or not at all; returns the bytes of weights before and after.

    Parameters
    ----------
    model
        A LLaMA, in floats.
    layers
        Numbers of the decoder layers that lose their FFN and its norm.
    out
        A folder that does not exist.
    tokenizer
        Saved too, or None.
    """
    model = unwrapped(model)
    widths = _widths(model, layers)
    if out.exists():
        raise FileExistsError(f"expected the name of a new folder, but {out} exists; name another one")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"expected a folder to write {out.name} into, but there is no {out.parent}; make it")
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        part = Path(folder) / out.name
        part.mkdir()
        if len(set(widths)) == 1 and None not in widths:
            model.save_pretrained(part)
        else:
            _save(model, widths, part)
        if tokenizer is not None:
            tokenizer.save_pretrained(part)
        part.rename(out)
    weights = dict(model.named_parameters())  # tied ones once
    full = sum(map(stored, weights.values()))
    return full, full - sum(stored(weight) for name, weight in weights.items() if _left_out(name, layers))


def _widths(model: PreTrainedModel, layers: tuple[int, ...]) -> list[int | None]:
    """Neurons of each layer's FFN, None where left out; UnsupportedModel for a model that does not fit the layout."""
    reason = None
    if not isinstance(model, LlamaForCausalLM):
        reason = "DeciLM's layers are LLaMA's"
    elif found := quantised(model):
        reason = f"its weights are quantised ({next(iter(found))}); load it in floats and quantise what is exported"
    if reason is not None:
        raise UnsupportedModel(
            f"expected a LLaMA model in floats, got {type(model).__name__} ({model.config.model_type!r}): {reason}"
        )
    stack: list[Any] = decoder_layers(model)
    within(layers, len(stack))
    every = [layer.mlp.down_proj.weight.shape[1] for layer in stack]
    return [None if number in layers else width for number, width in enumerate(every)]


def _save(model: PreTrainedModel, widths: list[int | None], part: Path) -> None:
    layers = tuple(number for number, width in enumerate(widths) if width is None)
    kept: dict[str, Tensor] = {
        name: tensor for name, tensor in model.state_dict().items() if not _left_out(name, layers)
    }
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    save_torch_state_dict({name: tensor for name, tensor in kept.items() if name not in tied}, part)
    (part / "config.json").write_text(json.dumps(_config(model, widths), indent=2) + "\n", encoding="utf-8")
    model.generation_config.save_pretrained(part)
    for name in _REMOTE:
        shutil.copyfile(str(files(__package__) / "remote" / name), part / name)


def _config(model: PreTrainedModel, widths: list[int | None]) -> dict[str, Any]:
    """The configuration of the LLaMA with a description of each layer."""
    config = model.config
    group = config.num_attention_heads // config.num_key_value_heads
    blocks = [
        {
            "attention": {"n_heads_in_group": group, "no_op": False},
            "ffn": {"intermediate_size": width, "no_op": width is None},
        }
        for width in widths
    ]
    said = {name: value for name, value in config.to_dict().items() if name not in _NOT_SAID}
    return {
        **said,
        "architectures": ["DeciLMForCausalLM"],
        "model_type": "nemotron-nas",
        "auto_map": {
            "AutoConfig": "configuration_decilm.DeciLMConfig",
            "AutoModelForCausalLM": "modeling_decilm.DeciLMForCausalLM",
        },
        "block_configs": blocks,
    }


def _left_out(name: str, layers: tuple[int, ...]) -> bool:
    """Whether a weight belongs to a feed-forward block, or its norm, of one of these layers."""
    words = name.split(".")
    inside = {"mlp", "post_attention_layernorm"} & set(words)
    return bool(inside) and int(words[words.index("layers") + 1]) in layers
