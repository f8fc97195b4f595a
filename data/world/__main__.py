"""Write the task files: ``python -m data.world --out data/tasks``."""

from __future__ import annotations

import argparse
from pathlib import Path

from data.world.tasks import write

HERE = Path(__file__).resolve().parents[1]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.world", description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "tasks", help="folder for the JSON lines")
    for path, lines in write(parser.parse_args(argv).out).items():
        print(f"{lines:5d} lines  {path}")


if __name__ == "__main__":
    main()
