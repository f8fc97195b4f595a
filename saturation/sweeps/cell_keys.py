"""Cell keys: hashes of everything a cell depends on, such as model, texts, policy and code."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from accelerate.utils import align_module_device
from transformers import PreTrainedModel

from .. import anatomy, generation, patching, policies, quality, recording, similarity, skipping
from ..anatomy import held, input_device, unwrapped
from ..policies import Policy
from ..recording import end_ids
from ..tasks import Task, task
from .judge_keys import told

_SCORES = (
    "answers collapse conversations dense_comparison drift_from_dense evaluating likelihood matching skip_counts"
).split()
_ROOMS = (anatomy, generation, patching, policies, recording, similarity, skipping, task)
_NOTES = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")  # ignored config fields
_SAMPLED = 64  # numbers sampled of a weight
_PACKAGES = ("torch", "transformers", "rouge-score", "sacrebleu")  # packages that compute logits, tokens or scores


def fingerprint(model: PreTrainedModel) -> str:
    """Hash of all weights and buffers of a model, their names and types, its configuration and its end tokens.

    It reads every byte, about a second per gigabyte. The model's location, and the configuration's notes on the program
    that saved it, are ignored.
    """
    config = json.loads(unwrapped(model).config.to_json_string(use_diff=False))
    found = hashlib.blake2b(json.dumps(_deciding(config), sort_keys=True).encode(), digest_size=16)
    found.update(str(end_ids(model)).encode())
    for name, tensor in _tensors(model):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def sample(model: PreTrainedModel) -> str:
    """Cheap hash of a model, from the sum of each weight and a few of its numbers, to detect changes."""
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        for part in held(tensor):
            flat = part.detach().flatten()
            if not flat.is_meta:  # meta: offloaded to the disk
                some = (
                    flat[:: max(flat.numel() // _SAMPLED, 1) | 1].cpu().contiguous()
                )  # an odd step samples several columns
                found.update(name.encode() + bytes(some.view(torch.uint8).numpy()))
                found.update(str(float(flat.float().sum())).encode())
    return found.hexdigest()


def verify(model: PreTrainedModel, tokenizer: Any, *, weights: str, words: str) -> None:
    """Raise ValueError unless these are the model and tokenizer that a script was copied for.

    Parameters
    ----------
    model, tokenizer
        As they were loaded.
    weights, words
        `fingerprint` of the model, and `tokens` of the tokenizer, when the script was copied.
    """
    found = {"model": (weights, fingerprint(model)), "tokenizer": (words, tokens(tokenizer))}
    for what, (wanted, got) in found.items():
        if wanted != got:
            raise ValueError(
                f"expected the {what} that this script was copied for, with the fingerprint {wanted}, got one with "
                f"{got}: it was changed there after it was loaded (trained, pruned, wrapped), or lies here in another "
                "state; save it there with model.save_pretrained(FOLDER) and tokenizer.save_pretrained(FOLDER), and "
                "load that folder"
            )


def _deciding(config: Any) -> Any:
    """A configuration without fields that do not affect results."""
    if isinstance(config, dict):
        return {name: _deciding(value) for name, value in config.items() if name not in _NOTES}
    return [_deciding(part) for part in config] if isinstance(config, list) else config


def _tensors(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """All weights and buffers, saved with the model or not; offloaded ones are loaded module by module."""
    for path, module in model.named_modules():
        with align_module_device(module):
            for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
                for part in held(tensor):
                    yield f"{path}.{name}", part


def place(model: PreTrainedModel) -> str:
    """Kind of device and attention kernel, which affect rounding; not the GPU model or the number of threads.

    Rounding can break ties between likely tokens differently, and so change a text.
    """
    return f"{input_device(model).type} {getattr(unwrapped(model).config, '_attn_implementation', None)}"


def tokens(tokenizer: Any) -> str:
    """Hash of a tokenizer's behaviour, independent of its location."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        own = {"vocab": tokenizer.get_vocab(), "class": type(tokenizer).__name__}
    else:
        own = json.loads(backend.to_str())
        own = {part: own[part] for part in own if part not in ("padding", "truncation")}  # set anew by every call
    cleans = getattr(tokenizer, "clean_up_tokenization_spaces", None)
    return digest(json.dumps(own, sort_keys=True), str(tokenizer.chat_template), str(cleans))


def code(*more: ModuleType) -> str:
    """Hash of the source code and package versions that affect a row.

    `more` are further rooms or modules besides those of a sweep.
    """
    parts = (*_ROOMS, *more, *(getattr(quality, name) for name in _SCORES))
    texts = (path.read_text(encoding="utf-8") for part in parts for path in _files(part))
    return digest(*texts, *(metadata.version(package) for package in _PACKAGES))


def _files(part: ModuleType) -> list[Path]:
    """A module's file, or all of a room's."""
    file = Path(str(part.__file__))
    return sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]


def cell(given: Task, policy: Policy | None, *common: str) -> str:
    """Key of one run, from its task, its policy and the common parts of all cells."""
    examples = json.dumps(asdict(replace(given, source="")), ensure_ascii=False)
    return digest(*common, examples, "dense" if policy is None else policy.to_json())


def of_judge(judge: Callable[..., Any]) -> str:
    """Key of a judge, from its code and settings and from the code that asks it."""
    return digest(inspect.getsource(quality.judge_endpoint), *told(judge))


def digest(*parts: str) -> str:
    """Hash of texts in the given order."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
