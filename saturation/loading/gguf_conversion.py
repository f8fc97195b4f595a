"""Conversion of GGUF files: transformers' own conversion, with corrections."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from jinja2 import TemplateError
from tokenizers import pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from . import gguf_header
from .errors import LoadingError, advice
from .gguf_header import Header

_FLOATS = {0: torch.float32, 1: torch.float16, 30: torch.bfloat16}  # GGML's float types, which are not stored in blocks
_DIGITS_APART = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"}  # as llama.cpp splits text
_SAID = "What was said."


class Opened(NamedTuple):
    """A model, its tokenizer and transformers' report on the weights."""

    model: PreTrainedModel
    tokenizer: Any
    found: dict[str, Any]


def checked(path: Path) -> Header:
    """Read the header of a GGUF file; LoadingError for another or damaged file, or without the extra `gguf`."""
    needed(path)
    return gguf_header.read(path)


def needed(path: str | Path) -> None:
    """Raise LoadingError where the extra `gguf` is not installed."""
    if importlib.util.find_spec("gguf") is None:
        raise LoadingError(
            f"expected the package gguf, which reads GGUF files such as {str(path)!r}, but it is not installed; "
            "pip install 'saturation[gguf]'"
        )


def opened(path: Path, *, dtype: torch.dtype | str | None, device_map: Any = None) -> Opened:
    """Convert a GGUF file, with all its blocks unpacked to `dtype`.

    With "auto" float weights keep their type, and quantised blocks become bfloat16.

    Raises
    ------
    LoadingError
        As `checked`, and for an architecture or a tokenizer that transformers does not convert.
    """
    head = checked(path)
    if dtype in (None, "auto"):
        dtype = _FLOATS.get(head.type, torch.bfloat16)
    folder, name = str(path.parent), path.name
    unpacked = {"quantization_config": kind(dequantize=True)} if (kind := _settings()) else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name, local_files_only=True)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            gguf_file=name,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=dtype,
            device_map=device_map,
            local_files_only=True,
            **unpacked,
        )
    except Exception as error:  # conversion code of any architecture may raise any kind of error
        raise LoadingError(_refused(path, head, error)) from error
    model, found = loaded
    _ordinary(model)
    if head.keys.get("tokenizer.ggml.pre") in _DIGITS_APART:
        _digits_apart(tokenizer)
    if not tokenizer.chat_template and (template := head.keys.get("tokenizer.chat_template")):
        tokenizer.chat_template = template
    if ends := _ends(head, tokenizer):
        model.generation_config.eos_token_id = ends[0] if len(ends) == 1 else ends
    return Opened(model, tokenizer, found)


def config_of(path: Path) -> Any:
    """The configuration of the model in a GGUF file."""
    head = checked(path)
    try:
        config = AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name, local_files_only=True)
    except Exception as error:
        raise LoadingError(_refused(path, head, error)) from error
    vars(config).pop("_model_name_or_path", None)
    return config


def _settings() -> Any:
    """Transformers' settings for GGUF files, in versions that can also keep weights in blocks."""
    return getattr(transformers, "GgufConfig", None)


def _ordinary(model: PreTrainedModel) -> None:
    """Remove the marks of a quantised model, since its weights are plain numbers."""
    for owner, name in (
        (model, "hf_quantizer"),
        (model, "quantization_method"),
        (model, "is_quantized"),
        (model.config, "quantization_config"),
        (model.config, "_model_name_or_path"),  # the file's title
    ):
        vars(owner).pop(name, None)
    model.config.architectures = [type(model).__name__]  # as saving writes it


def _digits_apart(tokenizer: Any) -> None:
    """Split digits first, as these vocabularies were trained; transformers' conversion omits that."""
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def _ends(head: Header, tokenizer: Any) -> list[int]:
    """Ids that end a text: from the file's keys, and the token that its chat template writes after an answer."""
    named = [head.keys.get(f"tokenizer.ggml.{what}_token_id") for what in ("eos", "eot", "eom")]
    found = [int(each) for each in named if each is not None]
    return list(dict.fromkeys([*found, *_after_an_answer(tokenizer)]))


def _after_an_answer(tokenizer: Any) -> list[int]:
    """The control token after an answer in the chat template, if there is one."""
    if not tokenizer.chat_template:
        return []
    turns = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": _SAID}]
    try:
        _, said, rest = tokenizer.apply_chat_template(turns, tokenize=False).rpartition(_SAID)
    except (TemplateError, TypeError, KeyError, ValueError):  # a template that needs more than messages
        return []
    first = tokenizer(rest.strip(), add_special_tokens=False).input_ids[:1] if said else []
    control = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return [each for each in first if each in control]


def _refused(path: Path, head: Header, error: Exception) -> str:
    """Error message for a complete file that transformers does not convert."""
    text = " ".join(str(error).split())
    if head.architecture not in (known := _architectures()):
        return (
            f"expected an architecture that transformers {transformers.__version__} converts from GGUF, but "
            f"{str(path)!r} holds {head.architecture!r}; it knows {', '.join(known)}: take the same model in Hugging "
            "Face format, or a newer transformers"
        )
    if "Unrecognized" in text or "device_map" in text:
        return advice(str(path), error)
    return (
        f"expected a GGUF file that transformers {transformers.__version__} converts, but {str(path)!r} "
        f"({head.architecture}) is not one: {text or type(error).__name__}; take the same model in Hugging Face "
        "format, or a newer transformers"
    )


def _architectures() -> list[str]:
    """Architectures that transformers converts, as GGUF files call them."""
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    newer = []
    if importlib.util.find_spec("transformers.integrations.gguf.gguf_config_mapping"):
        from transformers.integrations.gguf.gguf_config_mapping import GGUF_CONFIG_ARCHS

        newer = list(GGUF_CONFIG_ARCHS)
    spelled = {"qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "gpt_oss": "gpt-oss", "minimax_m2": "minimax-m2"}
    known = {spelled.get(each, each) for each in GGUF_SUPPORTED_ARCHITECTURES}
    return sorted({*known, *newer} - {"general", "tokenizer"})
