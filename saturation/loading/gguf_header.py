"""The header of a GGUF file: its keys and the table of its tensors, read without the weights.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The package `gguf` reads each element of a key as a
separate array, which takes 15 s for a vocabulary of 262,144 tokens.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from .errors import LoadingError

_FORMS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


class Header(NamedTuple):
    """Keys of a GGUF file (arrays of text as their length) and the type of its largest tensor."""

    keys: dict[str, Any]
    type: int

    @property
    def architecture(self) -> str:
        """Architecture, by llama.cpp's name."""
        return str(self.keys.get("general.architecture", "nameless"))


def read(path: Path) -> Header:
    """Read the header and check that the file is as long as its table of tensors says.

    Raises
    ------
    LoadingError
        For a file that is missing, not GGUF, damaged, cut short, or one part of a split model.
    """
    if not path.is_file():
        raise LoadingError(f"expected a GGUF file, but there is no {str(path)!r}; check the spelling")
    with path.open("rb") as file:
        begins = file.read(4)
        if begins != b"GGUF":
            raise LoadingError(
                f"expected a GGUF file, which begins with the letters GGUF, but {str(path)!r} begins with {begins!r}; "
                "give the file of weights itself, not a pointer to it or a page about it"
            )
        try:
            keys, tensors = _parsed(file)
        except (struct.error, ValueError, KeyError, OverflowError, MemoryError) as error:
            raise LoadingError(_broken(path, "its header cannot be read")) from error
        begin, alignment = file.tell(), int(keys.get("general.alignment", 32))
    if (parts := int(keys.get("split.count", 0))) > 1:
        raise LoadingError(
            f"expected a GGUF file in one piece, but {str(path)!r} is one of {parts}; join them first with llama.cpp's "
            "'llama-gguf-split --merge'"
        )
    needed = -(-begin // alignment) * alignment + max((offset + size for offset, size, *_ in tensors), default=0)
    if (held := path.stat().st_size) < needed:
        raise LoadingError(_broken(path, f"it holds {held:,} bytes of {needed:,}"))
    return Header(keys, max(tensors, key=lambda tensor: tensor[2], default=(0, 0, 0, 0))[3])


def _broken(path: Path, how: str) -> str:
    return f"expected a whole GGUF file, but {str(path)!r} is cut short or damaged: {how}; get it again"


def _parsed(file: BinaryIO) -> tuple[dict[str, Any], list[tuple[int, int, int, int]]]:
    """Keys, and for each tensor: offset, bytes, elements, type."""
    version, count, pairs = struct.unpack("<IQQ", file.read(20))
    if version not in (2, 3):
        raise ValueError(version)
    keys = {}
    for _ in range(pairs):
        key = _text(file)
        keys[key] = _value(file, *struct.unpack("<I", file.read(4)))
    tensors = []
    for _ in range(count):
        _text(file)
        (dimensions,) = struct.unpack("<I", file.read(4))
        shape = struct.unpack(f"<{dimensions}Q", file.read(8 * dimensions))
        kind, offset = struct.unpack("<IQ", file.read(12))
        elements = math.prod(shape)
        tensors.append((offset, _bytes(kind, elements), elements, kind))
    return keys, tensors


def _bytes(kind: int, elements: int) -> int:
    """Size of a tensor in bytes."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    return elements // block * size


def _text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    text = file.read(length)
    if len(text) < length:
        raise ValueError(length)
    return text.decode("utf-8")


def _value(file: BinaryIO, kind: int) -> Any:
    """One value; an array of texts gives its length."""
    if kind == _STRING:
        return _text(file)
    if kind != _ARRAY:
        return _numbers(file, kind, 1)[0]
    inner, count = struct.unpack("<IQ", file.read(12))
    if inner != _STRING:
        return _numbers(file, inner, count)
    for _ in range(count):
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(length, 1)
    return count


def _numbers(file: BinaryIO, kind: int, count: int) -> tuple[Any, ...]:
    form = f"<{count}{_FORMS[kind]}"
    return struct.unpack(form, file.read(struct.calcsize(form)))
