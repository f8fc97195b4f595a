"""The bundled model and its checksums."""

from __future__ import annotations

from pathlib import Path

from .errors import LoadingError
from .wheels import sha256

DEMO = Path(__file__).resolve().parents[2] / "data" / "demo-model"


def present() -> Path:
    """Folder of the bundled model; LoadingError where it is missing."""
    if not DEMO.is_dir():
        raise LoadingError(
            f"expected the bundled model in {DEMO}, but it is not there: it comes with a clone of the "
            "repository, not with the installed package; clone the repository and install it with "
            "'pip install -e .', or pass a folder or a hub id instead"
        )
    return DEMO


def verify(folder: Path) -> None:
    """Raise LoadingError for a file of the bundled model that differs from its checksum (SHA256SUMS)."""
    for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        digest, name = line.split()
        file = folder / name
        if not file.is_file() or sha256(file) != digest:
            raise LoadingError(
                f"expected the bundled model as it was committed, but {file} differs from its checksum in SHA256SUMS; "
                "restore it with 'git checkout -- data/demo-model'"
            )
