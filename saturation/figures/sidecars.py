"""Sidecar files of a picture: its data, a LaTeX table, and a manifest of their origin."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from saturation import __version__

from .read_back import Printed
from .source import Source

DATA, TABLE, MANIFEST = ".data.csv", ".table.tex", ".manifest.json"  # in place of a picture's suffix
_PACKAGES = ("matplotlib", "numpy", "pandas", "torch", "transformers")
_NO_DATA = "none: the figure was drawn in axes of its own; hand them to save as data="
_IN_LATEX = {"ρ": r"$\rho$", "−": "$-$", "–": "--", "…": r"\dots{}", "±": r"$\pm$", "×": r"$\times$"}


def place(picture: Path, name: str) -> Path:
    """Path of a file beside a picture."""
    return picture.with_name(picture.stem + name)


def files(source: Source) -> dict[str, bytes]:
    """Name -> content of a source's sidecar files, with an empty manifest."""
    found = {}
    if source.data is not None:
        found[DATA] = _csv(source.data)
    if source.table is not None:
        found[TABLE] = _latex(source.table)
    return {**found, MANIFEST: b""}


def _csv(data: pd.DataFrame) -> bytes:
    return data.to_csv(index=False, lineterminator="\n").encode()  # the same bytes on every machine


def _latex(table: pd.DataFrame) -> bytes:
    style = table.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis="columns")
    text = style.to_latex(hrules=True)
    for sign, command in _IN_LATEX.items():
        text = text.replace(sign, command)
    return text.encode()


def _hash(data: pd.DataFrame) -> str:
    """SHA-256 of the data's file, as `sha256sum` prints it."""
    return hashlib.sha256(_csv(data)).hexdigest()


def essentials(source: Source, suffix: str) -> dict[str, str]:
    """Title, subject and keywords for the metadata of a picture, by the names that its format has for them."""
    models = dict.fromkeys(
        f"{one['model']} ({one.get('revision') or 'no revision'}, {one.get('dtype') or 'no dtype'})"
        for one in source.about.get("traces", [source.about])
        if "model" in one
    )
    what = f"{source.kind}{' of ' if models else ''}{', '.join(models)}"
    data = f"data sha256 {_hash(source.data)}" if source.data is not None else "without data"
    return {
        "Title": f"saturation: {source.kind}",
        "Subject" if suffix == ".pdf" else "Description": f"{what}; {data}",
        "Keywords": ", ".join(f"{name} {version}" for name, version in _versions().items()),
    }


def manifest(
    source: Source, *, asked: Mapping[str, Any], files: Sequence[str], printed: Mapping[str, Printed]
) -> bytes:
    """The manifest: what was drawn, from which data, by which command and settings, and the files' properties."""
    data = source.data
    found = {
        "figure": source.kind,
        "files": list(files),
        "asked": dict(asked),
        "read back": {name: picture.to_dict() for name, picture in printed.items()},
        "data": _NO_DATA if data is None else {"rows": len(data), "sha256": _hash(data)},
        "about": source.about,
        "command": _command(),
        "versions": _versions(),
    }
    return (json.dumps(found, indent=1, ensure_ascii=False, default=str) + "\n").encode()


def _command() -> str:
    """The running command line or notebook."""
    called = Path(sys.argv[0])
    program = f"python -m {called.parent.name}" if called.name == "__main__.py" else shlex.quote(called.name)
    if program.startswith("ipykernel_launcher"):
        notebook = Path(os.environ.get("JPY_SESSION_NAME", "")).name  # set by Jupyter's server
        return f"notebook {notebook}" if notebook else "a notebook"
    return f"{program} {shlex.join(sys.argv[1:])}".strip()


def _versions() -> dict[str, str]:
    """Versions of this package, Python, and the installed packages that measure and draw."""
    found = {"saturation": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # figures are drawn without torch too
            continue
    return found
