"""What a cell depends on, as a hash: results of another model, text, policy or code are never taken for its own."""

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
from ..anatomy import input_device
from ..policies import Policy
from ..recording import end_ids
from ..tasks import Task, task
from .judges import told

_SCORES = "answering collapse comparing conversing counting drifting evaluating likelihood matching".split()
_ROOMS = (anatomy, generation, patching, policies, recording, similarity, skipping, task)
_PACKAGES = ("torch", "transformers", "rouge-score", "sacrebleu")  # that compute logits, tokens or a score


def fingerprint(model: PreTrainedModel) -> str:
    """Hash of all weights and buffers of a model, their names and types, its configuration and its end tokens.

    Every byte is read: a second or so per gigabyte.
    """
    found = hashlib.blake2b(model.config.to_json_string(use_diff=False).encode(), digest_size=16)
    found.update(str(end_ids(model)).encode())
    for name, tensor in _tensors(model):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _tensors(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """All weights and buffers, saved with the model or not; what is offloaded is brought here module by module."""
    for path, module in model.named_modules():
        with align_module_device(module):
            for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
                yield f"{path}.{name}", tensor


def place(model: PreTrainedModel) -> str:
    """What rounds as it computes: the kind of device and the attention kernel. Not the card, nor the number of threads.

    Ties of two likely tokens fall differently there, and then a text does.
    """
    return f"{input_device(model).type} {getattr(model.config, '_attn_implementation', None)}"


def tokens(tokenizer: Any) -> str:
    """What decides how a tokenizer reads and writes, wherever it was loaded from."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        own = {"vocab": tokenizer.get_vocab(), "class": type(tokenizer).__name__}
    else:
        own = json.loads(backend.to_str())
        own = {part: own[part] for part in own if part not in ("padding", "truncation")}  # set anew by every call
    cleans = getattr(tokenizer, "clean_up_tokenization_spaces", None)
    return digest(json.dumps(own, sort_keys=True), str(tokenizer.chat_template), str(cleans))


def code() -> str:
    """The source of all that decides a row, and the versions it runs on: rows of another are not this version's."""
    parts = (*_ROOMS, *(getattr(quality, name) for name in _SCORES))
    texts = (path.read_text(encoding="utf-8") for part in parts for path in _files(part))
    return digest(*texts, *(metadata.version(package) for package in _PACKAGES))


def _files(part: ModuleType) -> list[Path]:
    """A module's file, or all of a room's."""
    file = Path(str(part.__file__))
    return sorted(file.parent.glob("*.py")) if file.name == "__init__.py" else [file]


def cell(given: Task, policy: Policy | None, *common: str) -> str:
    """Key of one run: a task wherever its file lies, a policy, and what all cells share."""
    examples = json.dumps(asdict(replace(given, source="")), ensure_ascii=False)
    return digest(*common, examples, "dense" if policy is None else policy.to_json())


def of_judge(judge: Callable[..., Any]) -> str:
    """How a judge is asked, and what it is."""
    return digest(inspect.getsource(quality.judging), *told(judge))


def digest(*parts: str) -> str:
    """Hash of texts in this order."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
