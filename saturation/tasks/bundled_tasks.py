"""The tasks of the bundled world, by name."""

from __future__ import annotations

from pathlib import Path

from .json_lines import read
from .task import Task

TASKS = Path(__file__).resolve().parents[2] / "data" / "tasks"
_ROOM = {  # most new tokens of an answer
    "factoid": 16,
    "factoid_heldout": 16,
    "problems": 48,
    "summaries": 64,
    "conversations": 48,
}


def names() -> list[str]:
    """Names of the bundled tasks."""
    return sorted(path.stem for path in TASKS.glob("*.jsonl"))


def bundled(name: str) -> Task:
    """Read a task of the bundled world (data/README.md describes them).

    Parameters
    ----------
    name
        One of `names()`.

    Returns
    -------
    Task

    Raises
    ------
    FileNotFoundError
        Outside a clone of the repository, where the data is missing.
    ValueError
        For an unknown name; the message lists the known ones.
    """
    if not TASKS.is_dir():
        raise FileNotFoundError(
            f"expected the bundled tasks in {TASKS}, but they come only with a clone of the repository; clone it and "
            "install with 'pip install -e .', or read your own file with saturation.tasks.read"
        )
    if name not in names():
        raise ValueError(f"expected a bundled task among {', '.join(names())}, got {name!r}; choose one")
    return read(TASKS / f"{name}.jsonl", max_new_tokens=_ROOM.get(name))
