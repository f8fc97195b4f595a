"""`make bench`: every table, printed and written to one Markdown file."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from . import explorer, recording, skipping, tuning
from .interleave import machine


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed as ratios within one run.")
    parser.add_argument("--out", type=Path, default=Path("runs/bench.md"))
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    parts = [
        "# Benchmarks\n",
        f"Measured {datetime.now(UTC):%Y-%m-%d} by `make bench` on {machine()}. Variants take turns in one run, every "
        "second round in reverse order; numbers are medians with quartiles. GPU: *unmeasured*.\n",
    ]
    for title, table in (
        ("What recording costs over a decoded token", recording.costs(asked.rounds)),
        ("A trace of a million tokens", recording.million()),
        ("What skipping realises of the ideal saving", skipping.shares(asked.rounds)),
        ("How fast the explorer answers, 32 layers x 100,000 tokens", explorer.moves()),
        ("How soon the tuner writes anew once the hand rests", tuning.moves()),
    ):
        parts.append(section(title, table))
        print(parts[-1])
    asked.out.write_text("\n".join(parts), encoding="utf-8")
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
