"""Export of GGUF files: from the architecture `llama` to `deci`, whose layers may differ in width.

Keys and tensors are copied without unpacking. A feed-forward block that is left out is replaced by one quantisation
block of zeros, 32 neurons or more, since llama.cpp also drops a layer's attention if its `feed_forward_length` is 0
(seen with b11549).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..anatomy import UnsupportedModel
from ..atomic import writing
from ..loading import gguf_header
from .removable import within

NARROWEST = 32  # neurons of a block that is left out; more where a quantisation block is longer
_PER_LAYER = {"attention.head_count", "attention.head_count_kv", "feed_forward_length"}


def write(source: Path, layers: tuple[int, ...], out: Path) -> tuple[int, int]:
    """Write the file, whole or not at all; returns the bytes of its tensors before and after.

    Parameters
    ----------
    source
        A GGUF file of the architecture `llama`.
    layers
        Numbers of the decoder layers that lose their FFN.
    out
        The new file.
    """
    held = gguf_header(source)
    if held.architecture != "llama":
        raise UnsupportedModel(
            f"expected a GGUF file of the architecture 'llama', got {held.architecture!r} in {source}; llama.cpp knows "
            "layers of unequal width only as 'deci', which is LLaMA otherwise"
        )
    depth = int(held.keys["llama.block_count"])
    within(layers, depth)
    if "llama.expert_count" in held.keys:
        raise UnsupportedModel(f"expected feed-forward blocks of three matrices, but {source} holds experts")
    from gguf import GGUFReader, GGUFWriter

    reader = GGUFReader(source)
    width = _width(reader, layers)
    before = after = 0
    with writing(out, "the GGUF file") as part:
        writer = GGUFWriter(part, "deci")
        try:
            for name, value, *kinds in _keys(reader, depth, layers, width):
                writer.add_key_value(name, value, *kinds)
            tensors = [(tensor, _cut(tensor, layers, width)) for tensor in reader.tensors]
            for tensor, data in tensors:
                before, after = before + tensor.data.nbytes, after + data.nbytes
                writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
    return before, after


def _width(reader: Any, layers: tuple[int, ...]) -> int:
    """Neurons of a left-out block: the fewest that its quantisation allows."""
    from gguf.constants import GGML_QUANT_SIZES

    downs = [tensor for tensor in reader.tensors if _of(tensor.name) in layers and "ffn_down." in tensor.name]
    return max([NARROWEST, *(GGML_QUANT_SIZES[tensor.tensor_type][0] for tensor in downs)])


def _keys(reader: Any, depth: int, layers: tuple[int, ...], width: int) -> Iterator[tuple[Any, ...]]:
    """Every key and value of the new file with its type; the writer has the architecture's name already."""
    from gguf import GGUFValueType

    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = field.contents()
        renamed = re.sub(r"^llama\.", "deci.", name)
        if renamed.removeprefix("deci.") in _PER_LAYER:
            every = value if isinstance(value, list) else [value] * depth
            if renamed.endswith("feed_forward_length"):
                every = [width if layer in layers else own for layer, own in enumerate(every)]
            yield renamed, every, GGUFValueType.ARRAY, GGUFValueType.UINT32
        else:
            yield renamed, value, *field.types[: 2 if field.types[0] == GGUFValueType.ARRAY else 1]


def _cut(tensor: Any, layers: tuple[int, ...], width: int) -> np.ndarray:
    """A tensor's data as it is stored, or zeros where its block is left out: [outputs, bytes of the inputs]."""
    from gguf.constants import GGML_QUANT_SIZES

    data: np.ndarray = tensor.data
    if _of(tensor.name) not in layers or not re.search(r"\.ffn_(gate|up|down)\.", tensor.name):
        return data
    if ".ffn_down." not in tensor.name:
        return np.zeros((width, *data.shape[1:]), data.dtype)
    block, size = GGML_QUANT_SIZES[tensor.tensor_type]
    return np.zeros((data.shape[0], width // block * size // data.dtype.itemsize), data.dtype)


def _of(name: str) -> int:
    """Number of the layer that a tensor belongs to, -1 for none."""
    found = re.match(r"blk\.(\d+)\.", name)
    return int(found[1]) if found else -1
