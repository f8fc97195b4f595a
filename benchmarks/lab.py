"""A real JupyterLab for the tests and benchmarks that need one, with nobody's own settings."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from .browser import is_root

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120  # seconds until a server that does not answer counts as broken: a guard, not a measure of speed
NEWS = "@jupyterlab/apputils-extension:announcements"  # asks on its first page whether to fetch news: switched off
OPEN = "--LabApp.expose_app_in_browser=True"  # the page can be asked what a notebook holds


@dataclass(frozen=True)
class Lab:
    """A running server: where it answers, its key, the folder that it shows, and where it keeps notes on itself."""

    url: str
    token: str
    folder: Path
    runtime: Path

    def page(self, path: str) -> str:
        """Address that opens one file in a fresh workspace."""
        return f"{self.url}lab/workspaces/{secrets.token_hex(4)}/tree/{path}?token={self.token}"

    @property
    def front(self) -> str:
        """Address that JupyterLab by itself opens in a person's browser."""
        pages = [*self.runtime.glob("jpserver-file-to-run-*-open.html"), *self.runtime.glob("jpserver-*-open.html")]
        return pages[0].as_uri()

    def ask(self, route: str, method: str = "GET") -> Any:
        """What the server's own interface answers, None where that has no body."""
        request = Request(f"{self.url}api/{route}", method=method, headers={"Authorization": f"token {self.token}"})
        with urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read() or "null")

    def close_kernels(self) -> None:
        """Stop every kernel, so that the next notebook has the machine to itself."""
        for session in self.ask("sessions"):
            self.ask(f"sessions/{session['id']}", method="DELETE")


def desk(folder: Path) -> Path:
    """A copy of notebooks/ in `folder`, the bundled data beside it: what a notebook writes stays out of here."""
    results = shutil.ignore_patterns("out", "runs", ".*")
    copy = shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=results)
    if (ROOT / "data").exists():
        (folder / "data").symlink_to(ROOT / "data")
    return copy


def surroundings(folder: Path) -> dict[str, str]:
    """Environment of a server or kernel: this checkout is imported, settings lie in `folder`, the hub is shut."""
    folder.mkdir(parents=True, exist_ok=True)  # IPython warns where its folder has no parent
    own = {
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    kept = {name: value for name, value in os.environ.items() if name not in ("MPLBACKEND", "JUPYTER_PATH")}
    return kept | own  # without MPLBACKEND the kernel draws inline, as it does for a person


def switch_off_news(config: Path) -> None:
    """What `jupyter labextension disable` writes; `make lab` does it with that command."""
    page = config / "labconfig" / "page_config.json"
    page.parent.mkdir(parents=True)
    page.write_text(json.dumps({"disabledExtensions": {NEWS: True}}), encoding="utf-8")


@contextmanager
def jupyterlab(folder: Path, *options: str) -> Iterator[Lab]:
    """JupyterLab as its own process on a free port, showing a copy of notebooks/ in `folder`; stopped at the end."""
    shown, env, token = desk(folder), surroundings(folder / "jupyter"), secrets.token_hex(16)
    runtime, log = Path(env["JUPYTER_RUNTIME_DIR"]), folder / "jupyterlab.log"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.port={free_port()}", OPEN]
    command += [f"--IdentityProvider.token={token}", *(["--allow-root"] if is_root() else []), *options]
    switch_off_news(Path(env["JUPYTER_CONFIG_DIR"]))
    with log.open("wb") as out:
        server = subprocess.Popen(command, cwd=shown, env=env, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield Lab(address(server, runtime, log), token, shown, runtime)
        finally:
            stop(server)


def address(server: subprocess.Popen[bytes], runtime: Path, log: Path) -> str:
    """Where a server that was just started answers; RuntimeError shows its log if it does not."""
    note = runtime / f"jpserver-{server.pid}.json"  # written once the port is bound
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and server.poll() is None:
        with suppress(OSError, ValueError, KeyError):
            url = json.loads(note.read_text(encoding="utf-8"))["url"]
            with urlopen(f"{url}api", timeout=PATIENCE):
                return url
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not answer within {PATIENCE} s:\n{log.read_text(errors='replace')[-4000:]}")


def stop(server: subprocess.Popen[bytes]) -> None:
    """End a server and its kernels; one that does not listen is killed."""
    server.terminate()
    with suppress(subprocess.TimeoutExpired):
        server.wait(20)
    server.kill()
    server.wait()


def free_port() -> int:
    """A port that nobody listens on just now; JupyterLab takes the next one if that changes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
