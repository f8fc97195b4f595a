"""`make bench`: every table, or those asked for, printed and written to one Markdown file."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import torch

from . import harm, narrow, recording, skipping
from .interleave import machine


def explorer_moves() -> pd.DataFrame:
    """Only here is a browser asked for."""
    from . import explorer

    return explorer.moves()


def tuner_moves() -> pd.DataFrame:
    """As above."""
    from . import tuning

    return tuning.moves()


def serving_speeds(rounds: int) -> pd.DataFrame:
    """As above, of llama.cpp."""
    from . import serving

    return serving.speeds(rounds)


Table = Callable[[Namespace], pd.DataFrame]
TABLES: dict[str, tuple[str, Table]] = {
    "recording": (
        "What recording costs over a decoded token",
        lambda asked: recording.costs(asked.rounds, asked.device),
    ),
    "trace": ("A trace of a million tokens", lambda asked: recording.million()),
    "skipping": (
        "What skipping realises of the ideal saving",
        lambda asked: skipping.shares(asked.rounds, asked.device, hidden=asked.hidden),
    ),
    "narrow": (
        "How fast a model decodes from which neurons were taken for good",
        lambda asked: narrow.speeds(asked.rounds, asked.device, hidden=asked.hidden),
    ),
    "harm": (
        "What a pass of harm costs beside a plain forward",
        lambda asked: harm.passes(asked.rounds, asked.device),
    ),
    "serving": (
        "What llama.cpp makes of an exported model",
        lambda asked: serving_speeds(asked.rounds),
    ),
    "explorer": ("How fast the explorer answers, 32 layers x 100,000 tokens", lambda asked: explorer_moves()),
    "tuner": ("How soon the tuner writes anew once the hand rests", lambda asked: tuner_moves()),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed as ratios within one run.")
    parser.add_argument("--out", type=Path, default=Path("runs/bench.md"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="of recording and skipping")
    parser.add_argument("--hidden", type=int, default=1024, help="width of the models of the table on skipping")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES), help="tables to measure")
    asked = parser.parse_args()
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    parts = [
        "# Benchmarks\n",
        f"Measured {datetime.now(UTC):%Y-%m-%d} by `python -m benchmarks` on {machine(asked.device)}. Variants take "
        "turns in one run, every second round in reverse order; numbers are medians with quartiles."
        + (" GPU: *unmeasured*.\n" if asked.device.type == "cpu" else "\n"),
    ]
    for title, table in (TABLES[name] for name in asked.only):
        parts.append(section(title, table(asked)))
        print(parts[-1], flush=True)
        asked.out.write_text("\n".join(parts), encoding="utf-8")  # what is measured is kept, whatever comes after
    print(f"written: {asked.out}")


def section(title: str, table: pd.DataFrame) -> str:
    """A table in Markdown, with the notes it carries."""
    text = table.map(lambda cell: f"{cell:.2f}" if isinstance(cell, float) else str(cell))
    lines = [f"## {title}\n", "| " + " | ".join(text.columns) + " |", "|" + " --- |" * len(text.columns)]
    lines += ["| " + " | ".join(row) + " |" for row in text.itertuples(index=False)]
    lines += [""] + [f"- {note}" for note in table.attrs.get("notes", [])]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
