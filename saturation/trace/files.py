"""Write a file whole or not at all: beside its place first, and into it only when it is complete."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def writing(path: str | os.PathLike[str], what: str) -> Iterator[Path]:
    """Lend a path to write to; when the block ends well, what stands there takes the place of `path`.

    Parameters
    ----------
    path : path
        Where the file will be; its folder must exist. An older file stays until the new one is complete.
    what : str
        What is being saved, for the error: "the trace".

    Yields
    ------
    pathlib.Path
        A path in the same folder with the same suffix, gone afterwards, whatever happened.

    Raises
    ------
    OSError
        Of the kind that was met (FileNotFoundError, PermissionError, ...), with a sentence naming the path.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"cannot save {what} to {path}: there is no folder {path.parent}; make it first, or name another path"
        )
    if path.is_dir():
        raise IsADirectoryError(f"cannot save {what} to {path}: that is a folder; name a file in it")
    part = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise type(error)(
            f"cannot save {what} to {path}: {reason}; nothing was written there, so free the place or name another path"
        ) from error
    finally:
        part.unlink(missing_ok=True)
