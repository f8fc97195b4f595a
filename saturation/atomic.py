"""Atomic writes: files are written whole or not at all, first beside their path, then moved into place."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_SHOWN = 60  # letters of a refused path in the error message


def located(path: str | os.PathLike[str]) -> Path:
    """Expand `~` in a path, and check that a file can have it.

    Parameters
    ----------
    path : path
        Path of a file or a folder, which may not exist yet.

    Raises
    ------
    ValueError
        For an impossible path: one with a NUL, too long a name, or the home folder of an unknown user.
    """
    try:
        found = Path(path).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            found.lstat()
    except (OSError, ValueError, RuntimeError) as error:
        text, reason = os.fspath(path), getattr(error, "strerror", None) or str(error)
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        raise ValueError(f"expected a path that a file can have, got {shown!r} ({reason}); name another") from None
    return found


@contextmanager
def writing(path: str | os.PathLike[str], what: str) -> Iterator[Path]:
    """Yield a temporary path to write to, and move the file to `path` when the block ends without an error.

    Parameters
    ----------
    path : path
        Final path; its folder must exist. An older file stays until the new one is complete.
    what : str
        Name of the content for error messages, such as "the trace".

    Yields
    ------
    pathlib.Path
        A path in the same folder with the same suffix, always removed afterwards.

    Raises
    ------
    OSError
        The original kind of error (FileNotFoundError, PermissionError, ...), with a message that names the full path.
    ValueError
        For a path that cannot be a file, such as "..", and as for `located`.
    """
    with writing_together([path], what) as (part,):
        yield part


@contextmanager
def writing_together(paths: Sequence[str | os.PathLike[str]], what: str) -> Iterator[list[Path]]:
    """Yield temporary paths for several files, and move all of them into place, or none.

    Parameters
    ----------
    paths : sequence of path
        Final paths as for `writing`; errors name the first one.
    what : str
        Name of the content for error messages.

    Yields
    ------
    list of pathlib.Path
        As for `writing`, in the order of `paths`.

    Raises
    ------
    OSError, ValueError
        As for `writing`.
    """
    places = [located(path) for path in paths]
    for path in places:
        _check(path, what)
    parts = [path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}") for path in places]
    try:
        yield parts
        _into_place(parts, places)
    except OSError as error:
        reason = error.strerror or str(error)
        raise type(error)(
            f"cannot save {what} to {places[0].absolute()}: {reason}; nothing was written there, so free the place or "
            "name another path"
        ) from error
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def _check(path: Path, what: str) -> None:
    if path.name in ("", ".."):
        raise ValueError(f"expected a file to save {what} in, got {str(path)!r}, which is a folder; name a file in it")
    full = path.absolute()
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"cannot save {what} to {full}: there is no folder {full.parent}; make it first, or name another path"
        )
    if path.is_dir():
        raise IsADirectoryError(f"cannot save {what} to {full}: that is a folder; name a file in it")


def _into_place(parts: list[Path], places: list[Path]) -> None:
    """Move all files into place; if one cannot be moved, restore the older files."""
    before = [part.with_name(f"{part.name}.before") for part in parts]
    moved: list[tuple[Path, Path]] = []
    try:
        for part, old, place in zip(parts, before, places, strict=True):
            if len(parts) > 1 and place.exists():
                shutil.copy2(place, old)
            part.replace(place)
            moved.append((old, place))
    except OSError:
        for old, place in moved:
            old.replace(place) if old.exists() else place.unlink()
        raise
    finally:
        for old in before:
            old.unlink(missing_ok=True)
