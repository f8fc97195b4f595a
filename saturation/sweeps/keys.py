"""What a cell depends on, as a hash: results of another model, text, policy or code are never taken for its own."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, is_dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedModel

from .. import quality
from ..policies import Policy
from ..tasks import Task, task

_SCORES = "answering collapse comparing conversing counting drifting evaluating likelihood matching".split()


def fingerprint(model: PreTrainedModel) -> str:
    """Hash of all weights and buffers of a model, their names and types, and its configuration.

    Every byte is read: a second or so per gigabyte.
    """
    found = hashlib.blake2b(model.config.to_json_string(use_diff=False).encode(), digest_size=16)
    for name, tensor in model.state_dict().items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def tokens(tokenizer: Any) -> str:
    """What decides how a tokenizer reads and writes, wherever it was loaded from."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        own = {"vocab": tokenizer.get_vocab(), "class": type(tokenizer).__name__}
    else:
        own = json.loads(backend.to_str())
        own = {part: own[part] for part in own if part not in ("padding", "truncation")}  # set anew by every call
    return digest(json.dumps(own, sort_keys=True), str(tokenizer.chat_template))


def code() -> str:
    """The source of the scores: rows of another version are not this version's."""
    rooms = (*(getattr(quality, name) for name in _SCORES), task)
    return digest(*(inspect.getsource(room) for room in rooms))


def cell(given: Task, policy: Policy | None, *common: str) -> str:
    """Key of one run: a task wherever its file lies, a policy, and what all cells share."""
    examples = json.dumps(asdict(replace(given, source="")), ensure_ascii=False)
    return digest(*common, examples, "dense" if policy is None else policy.to_json())


def of_judge(judge: Callable[..., Any]) -> str:
    """A judge's settings, or the source of a function where it can be read, else its name; and how it is asked."""
    asked = inspect.getsource(quality.judging)
    if is_dataclass(judge):
        return digest(asked, repr(judge))
    name = getattr(judge, "__qualname__", type(judge).__qualname__)
    try:
        return digest(asked, name, inspect.getsource(judge))
    except (OSError, TypeError):
        return digest(asked, name)


def digest(*parts: str) -> str:
    """Hash of texts in this order."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
