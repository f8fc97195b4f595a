"""Checkpoints whose layers differ in width, as `prune(method="neurons")` makes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel


def reshaped(model: PreTrainedModel, folder: str | Path, found: dict[str, Any]) -> dict[str, Any]:
    """Set shapes and weights of the matrices that the configuration's `matrix_shapes` names.

    Parameters
    ----------
    model
        As transformers loaded it, with all matrices at the configuration's single width.
    folder
        Folder of the checkpoint, in safetensors.
    found
        Transformers' loading report; keys with a wrong shape that are corrected here are removed from it.

    Returns
    -------
    dict
        `found`, without the corrected keys.
    """
    shapes = getattr(model.config, "matrix_shapes", None) or {}
    if not shapes or not Path(folder).is_dir():
        return found
    right: set[str] = set()
    for key, tensor in _tensors(Path(folder), {f"{path}.{name}" for path in shapes for name in ("weight", "bias")}):
        path, _, name = key.rpartition(".")
        module: Any = model.get_submodule(path)
        if name == "weight" and list(tensor.shape) != list(shapes[path]):
            continue
        old = module.weight
        module.register_parameter(name, nn.Parameter(tensor.to(old.device, old.dtype), requires_grad=False))
        right.add(key)
        if name == "weight" and isinstance(module, nn.Linear):
            module.out_features, module.in_features = tensor.shape
        elif name == "weight":
            module.nx, module.nf = tensor.shape
    return {
        **found,
        "mismatched_keys": [entry for entry in found["mismatched_keys"] if entry[0] not in right],
        "missing_keys": [key for key in found["missing_keys"] if key not in right],
    }


def _tensors(folder: Path, keys: set[str]) -> Iterator[tuple[str, Tensor]]:
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in keys.intersection(file.keys()):
                tensor: torch.Tensor = file.get_tensor(key)
                yield key, tensor
