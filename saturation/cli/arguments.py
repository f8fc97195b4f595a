"""Parsing of command-line arguments: models, policies, prompts, tasks and output paths."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from .options import Opening

if TYPE_CHECKING:
    from ..tasks import Task

_EXAMPLE = "ffnskip:threshold=0.999,warmup=0"
_FROM_HUB = 64  # texts read of a set of the hub, which may be endless


def open_model(model: str, opening: Opening) -> tuple[Any, Any]:
    """Load model and tokenizer by the options that all commands on a model share."""
    from ..loading import load

    return load(model, **asdict(opening))


def read_policy(given: str | None) -> Any:
    """Read a policy from typed words, JSON text, or a JSON file with its arrays; None stays None."""
    from ..policies import from_json, from_words, is_worded
    from ..policies.serialization import beside
    from ..tasks.text_files import text_of

    if given is None:
        return None
    inline = given.lstrip().startswith("{")
    if not inline and not _is_file(given):
        if is_worded(given):
            return from_words(given)
        raise FileNotFoundError(
            f"expected a policy such as {_EXAMPLE}, JSON or a file of it, got {given!r}, and there is no such file"
        )
    text = given if inline else text_of(given, "a policy")
    try:
        return from_json(text, () if inline else beside(given))
    except json.JSONDecodeError:
        example = '{"policy": "FFNSkip", "threshold": 0.999}'
        raise ValueError(
            f"expected a policy as JSON, got {text!r}; write it like {example!r}, or as {_EXAMPLE}"
        ) from None


def _is_file(given: str) -> bool:
    from ..atomic import located

    try:
        return located(given).is_file()
    except ValueError:  # not a possible file name, such as a long policy
        return False


def read_prompts(prompt: list[str] | None, file: Path | None) -> list[str]:
    """Read prompts from the command line and from a file."""
    texts = [*(prompt or ()), *(_lines(file, "a file of prompts", "prompt", "text") if file is not None else ())]
    if not texts:
        raise ValueError("expected a prompt, got none; give --prompt TEXT, or --prompts FILE")
    return texts


def read_texts(given: str) -> list[str]:
    """Read texts from a file, a bundled task, a published set, or a set of the hub."""
    from ..atomic import located
    from ..tasks import HUB, hub

    file = located(given)
    if file.is_file():
        return list(_lines(file, "a file of texts", "text", "prompt"))
    task = hub(given, examples=_FROM_HUB) if given in HUB else _task(given)
    return [example.text or example.prompt for example in task]


def read_action(text: str | None, fit: str | None) -> Callable[..., Any] | None:
    """Read what runs in a block's place: a function that fits it, None where nothing runs."""
    if text is None:
        if fit is not None:
            raise ValueError("expected --fit beside --action, got it alone; name an action, or leave --fit out")
        return None
    from .. import pruning

    kind, colon, number = text.strip().lower().partition(":")
    try:
        if kind == "narrow":
            return partial(pruning.narrow, width=float(number) if colon else 0.5)
        if kind == "map":
            return partial(pruning.stand_in, by="map", rank=int(number) if colon else 64)
    except ValueError:
        kind = ""
    if kind not in ("mean", "scale") or colon:
        raise ValueError(f"expected an action among narrow:0.5, mean, scale and map:64, got {text!r}; name one of them")
    return partial(pruning.stand_in, by=kind)


def _lines(file: Path, what: str, first: str, second: str) -> Iterator[str]:
    """The non-blank lines of a text file, or one of two fields of a .jsonl file."""
    from ..tasks.text_files import text_of

    for number, line in enumerate(text_of(file, what).split("\n"), 1):
        if not line.strip():
            continue
        if file.suffix != ".jsonl":
            yield line
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"expected JSON in every line of {file}, but line {number} is not: {error}") from None
        if not isinstance(row, dict) or not ({first, second} & set(row)):
            raise ValueError(f"expected a field 'prompt' or 'text' in line {number} of {file}, found none; add it")
        text = row.get(first) or row.get(second, row.get(first))
        if not isinstance(text, str) or not text.strip():
            raise ValueError(
                f"expected 'prompt' or 'text' in line {number} of {file} to be a text, not empty, got {text!r}; "
                "correct it or remove the line"
            )
        yield text


def read_tasks(names: Sequence[str], examples: int | None) -> list[Task]:
    """Read tasks by their names on the command line, with at most `examples` examples each."""
    tasks = [_task(name) for name in names]
    called = [each.name for each in tasks]
    if twice := [name for name in called if called.count(name) > 1]:
        raise ValueError(f"expected tasks with a name each, got {twice[0]!r} twice; leave one out or rename its file")
    return tasks if examples is None else [each.head(examples) for each in tasks]


def _task(name: str) -> Task:
    from ..atomic import located
    from ..tasks import bundled, published, read

    kind, equals, path = name.partition("=")
    if equals and not (name.endswith(".jsonl") and located(name).is_file()):
        return published(kind, path)
    return read(name) if name.endswith(".jsonl") else bundled(name)


def writable(path: Path, what: str, *suffixes: str) -> None:
    """Raise before the work where an output file cannot be written."""
    if suffixes and path.suffix not in suffixes:
        raise ValueError(f"expected a name that ends in {' or '.join(suffixes)} for {what}, got {path.name}; rename it")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"expected a folder to write {path.name} into, but {path.parent} does not exist; make it first"
        )
    if path.is_dir():
        raise IsADirectoryError(f"expected a file for {what}, but {path} is a folder; name a file in it")
    _tried(path.parent, path)


def writable_folder(path: Path) -> None:
    """Raise before the work where an output folder cannot be made or written; it is not made yet."""
    there = path
    while not there.exists():
        there = there.parent
    _tried(there, path)


def _tried(folder: Path, path: Path) -> None:
    """Write a temporary file to test a folder."""
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(
            f"expected a place to write to with --out, but {path} cannot be written: {error.strerror}; name another"
        ) from error
