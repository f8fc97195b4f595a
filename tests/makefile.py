"""What the Makefile says it would do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def make(folder: Path, *words: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """What make says it would do, asked afresh: nothing of a `make test` around these tests is passed on."""
    outer = {"MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "TORCH", "PYTHON", "MODEL", "TEXTS"}
    env = {key: value for key, value in os.environ.items() if key not in outer}
    env["PATH"] = path + env["PATH"]
    return subprocess.run(["make", *words], cwd=folder, env=env, capture_output=True, text=True, check=False)
