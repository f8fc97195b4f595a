"""Write the task files and the calibration files: ``python -m data.world --out data``."""

from __future__ import annotations

import argparse
from pathlib import Path

from data.world import calibration, tasks

HERE = Path(__file__).resolve().parents[1]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.world", description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the folders of JSON lines")
    out = parser.parse_args(argv).out
    written = {**tasks.write(out / "tasks"), **calibration.write(out / "calibration")}
    for path, lines in written.items():
        print(f"{lines:5d} lines  {path}")


if __name__ == "__main__":
    main()
