"""Everything that needs a GPU, in one command: ``make gpu OUT=folder``, or ``python3 -m data.gpu --out folder``.

For a machine with CUDA and a torch of its own: nothing is installed. One after the other, each with a time limit and
a log in the folder: the tests that ask for a GPU, the benchmarks, the demo model trained on far more tokens, and its
tables. A step that fails is named and the next one runs; the exit status says whether all went well.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from data.machine import machine

ROOT = Path(__file__).resolve().parents[1]
MINUTES = {"tests": 1.0, "benchmarks": 1.75, "training": 5.25, "tables": 1.75}  # limits; together under ten


@dataclass(frozen=True)
class Step:
    """One command of the job, run in the repository's root."""

    name: str
    words: list[str]


def steps(out: Path, device: str, tokens: int, minutes: float, workers: int) -> list[Step]:
    """The job for a device: training reads 65,536 tokens a step on a GPU; on a CPU this is a dry run, all smaller."""
    big = torch.device(device).type == "cuda"
    timed = ["--rounds", "5"] if big else ["--rounds", "1", "--hidden", "256"]
    scored = ["--texts", "40"] if big else ["--texts", "4", "--examples", "8"]
    size = ["--batch-tokens", "65536", "--learning-rate", "3e-3"] if big else ["--threads", "1"]
    model = str(out / "demo-model")
    tested = [Step("tests", ["pytest", "-q", "tests/test_devices.py"])]
    return [
        *(tested if importlib.util.find_spec("pytest") else []),
        Step(
            "benchmarks",
            ["benchmarks", "--only", "recording", "skipping", *timed, "--device", device,
             "--out", str(out / "benchmarks.md")],
        ),
        Step(
            "training",
            ["data.train_demo", "--device", device, "--tokens", str(tokens), "--minutes", str(minutes), *size,
             "--workers", str(workers), "--out", model, "--checkpoint", str(out / "unfinished.pt")],
        ),
        Step("tables", ["data.evaluate_demo", "--model", model, "--device", device, *scored]),
    ]  # fmt: skip


def run(step: Step, out: Path) -> dict[str, object]:
    """Run one step, its output to ``<name>.log``; says how it ended and how long it took."""
    limit, started = 60 * MINUTES[step.name], time.perf_counter()
    env = os.environ | {"TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(ROOT)}
    with (out / f"{step.name}.log").open("w", encoding="utf-8") as log:
        try:
            words = [sys.executable, "-m", *step.words]
            done = subprocess.run(words, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT, timeout=limit)
            ended = f"with status {done.returncode}" if done.returncode else "well"
        except subprocess.TimeoutExpired:
            ended = f"at its limit of {limit:.0f} s"
    return {"step": step.name, "ended": ended, "seconds": round(time.perf_counter() - started, 1)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/gpu"), help="folder for logs, tables and the model")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to try the job out")
    parser.add_argument("--tokens", type=int, default=300_000_000, help="to train on")
    parser.add_argument("--minutes", type=float, default=4.25, help="of training, if that is sooner")
    parser.add_argument("--workers", type=int, default=max((os.cpu_count() or 2) - 2, 0), help="that draw batches")
    options = parser.parse_args(argv)
    if torch.device(options.device).type == "cuda" and not torch.cuda.is_available():
        parser.error(f"expected a CUDA device, but torch {torch.__version__} finds none; try the job with --device cpu")
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    ended = []
    for step in steps(out, options.device, options.tokens, options.minutes, options.workers):
        ended.append(run(step, out))
        print(f"{step.name}: ended {ended[-1]['ended']} after {ended[-1]['seconds']} s", flush=True)
        about = {"machine": machine(torch.device(options.device)) | {"cuda": torch.version.cuda}, "steps": ended}
        (out / "gpu.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    sys.exit(any(one["ended"] != "well" for one in ended))


if __name__ == "__main__":
    main()
