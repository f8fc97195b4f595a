"""`saturation doctor`: what is at hand on this machine, and what a model would take."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from . import options
from .app import app, plainly
from .given import open_model

OPTIONAL = {
    "lm-eval": "saturation eval --lm-eval",
    "datasets": "tasks from the hub",
    "openai": "answers scored by a judge",
    "playwright": "tests and pictures in a browser",
}  # package -> what it is for
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Finding(NamedTuple):
    """One line of the doctor: "ok", "--" (absent, and needed by few) or "!!" (something does not work)."""

    mark: str
    what: str
    says: str


@app.command()
@plainly
def doctor(
    model: Annotated[
        str | None, typer.Argument(help="also look at this one: 'demo', a folder in Hugging Face format, or a hub id")
    ] = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    device_map: options.DeviceMap = None,
    revision: options.Revision = None,
    trust_remote_code: options.Trust = False,
) -> None:
    """Say what is installed, which devices there are, whether the bundled model is whole, and what a model takes."""
    broken = False
    for finding in _findings():
        broken |= _say(finding)
    if model is not None:
        loaded, _ = open_model(model, device, dtype, device_map, revision, trust_remote_code)
        for finding in _of_model(loaded):
            broken |= _say(finding)
    if broken:
        raise typer.Exit(1)


def _say(finding: Finding) -> bool:
    """Print one line; whether it is a fault."""
    typer.echo(f"{finding.mark}  {finding.what:<12} {finding.says}")
    return finding.mark == "!!"


def _findings() -> Iterator[Finding]:
    yield Finding("ok", "saturation", f"{_version('saturation')}, Python {platform.python_version()}, {sys.platform}")
    yield from _packages()
    yield from _devices()
    yield from _bundled()
    for package, purpose in OPTIONAL.items():
        version = _version(package)
        lacking = f"not installed, needed for: {purpose}; pip install {package}"
        yield Finding("ok" if version else "--", package, version or lacking)
    yield _browser()


def _packages() -> Iterator[Finding]:
    """What the package itself requires, against what is installed."""
    from packaging.requirements import Requirement

    asked = [Requirement(line) for line in metadata.requires("saturation") or ()]
    needed = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    faults = [
        f"{one} is needed, found {_version(one.name) or 'none'}"
        for one in needed
        if not one.specifier.contains(_version(one.name) or "0", prereleases=True)
    ]
    if faults:
        yield Finding("!!", "packages", f"{'; '.join(faults)}; pip install --upgrade the ones named")
    else:
        named = ", ".join(f"{name} {_version(name)}" for name in ("torch", "transformers", "pandas", "matplotlib"))
        yield Finding("ok", "packages", f"all {len(needed)} in versions that fit: {named}, ...")


def _devices() -> Iterator[Finding]:
    import torch

    yield Finding("ok", "CPU", f"{platform.machine()}; torch computes with {torch.get_num_threads()} of its cores")
    if not torch.cuda.is_available():
        build = f"torch is built for {torch.version.cuda}, no GPU answers" if torch.version.cuda else "a CPU build"
        yield Finding("--", "CUDA", f"none ({build})")
    for number in range(torch.cuda.device_count()):
        free, whole = torch.cuda.mem_get_info(number)
        yield Finding(
            "ok", f"cuda:{number}", f"{torch.cuda.get_device_name(number)}, {_size(free)} of {_size(whole)} free"
        )


def _bundled() -> Iterator[Finding]:
    from ..loading import DEMO, LoadingError, verify
    from ..tasks import names

    if not DEMO.is_dir():
        return (yield Finding("--", "demo model", "not here: it comes with a clone of the repository"))
    try:
        verify(DEMO)
        yield Finding("ok", "demo model", f"as committed, by its checksums; tasks: {', '.join(names())}")
    except LoadingError as error:
        yield Finding("!!", "demo model", str(error))


def _browser() -> Finding:
    """A Chromium of the system, or Playwright's own."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None and _version("playwright"):
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            own = playwright.chromium.executable_path
        found = own if Path(own).is_file() else None
    missing = f"none found, needed for: {OPTIONAL['playwright']}; playwright install chromium"
    return Finding("ok" if found else "--", "Chromium", found or missing)


def _of_model(model: object) -> Iterator[Finding]:
    """Size and feed-forward blocks of a loaded model."""
    from ..anatomy import UnsupportedModel, find_blocks
    from ..skipping.ledger import bytes_read

    whole, name = model.get_memory_footprint(), model.config.name_or_path  # type: ignore[attr-defined]
    dtype = str(model.dtype).removeprefix("torch.")  # type: ignore[attr-defined]
    yield Finding("ok", name, f"{_size(whole)} of weights in {dtype}")
    try:
        blocks = find_blocks(model)  # type: ignore[arg-type]
    except UnsupportedModel as error:
        return (yield Finding("!!", "FFN blocks", str(error)))
    inside = {id(p): p.numel() * p.element_size() for block in blocks for m in block.chain for p in m.parameters()}
    held = sum(inside.values())
    read = sum(bytes_read(model, block) for block in blocks)  # type: ignore[arg-type, misc]
    share, saved = held / whole, read / (whole - held + read) / 4
    shape = "parallel to attention" if blocks[0].parallel else "behind attention"
    yield Finding(
        "ok",
        "FFN blocks",
        f"{len(blocks)} found, {shape}, {share:.0%} of the weights; a quarter of them skipped saves {saved:.0%} of "
        f"the bytes read, {1 / (1 - saved):.2f}x in speed if nothing else took time",
    )
    return None


def _version(package: str) -> str:
    """Installed version, "" where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _size(count: int) -> str:
    """Bytes with a unit."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024  # type: ignore[assignment]
    return f"{count:.1f} GiB"
