"""`saturation doctor`: checks the installation, the devices, the bundled model, and the needs of a model."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from . import options
from .app import app, example, plainly
from .arguments import open_model

OPTIONAL = {
    "gguf": "GGUF files, and named models such as smollm2",
    "lm-eval": "saturation eval --lm-eval",
    "datasets": "tasks from the hub",
    "openai": "answers scored by a judge",
    "playwright": "tests and pictures in a browser",
}  # package -> what it is for
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Finding(NamedTuple):
    """One line of the doctor's report: "ok", "--" (absent but optional) or "!!" (does not work)."""

    mark: str
    what: str
    says: str


@app.command(epilog=example("doctor smollm2"))
@plainly
def doctor(
    model: Annotated[str | None, typer.Argument(help=f"also look at this one: {options.MODEL}")] = None,
    opening: options.Opening = options.OPENING,
) -> None:
    """Say what is installed, which devices there are, whether the bundled model is whole, and what a model takes."""
    broken = False
    for finding in _findings():
        broken |= _say(finding)
    if model is not None:
        loaded, _ = open_model(model, opening)
        for finding in _of_model(loaded):
            broken |= _say(finding)
    if broken:
        raise typer.Exit(1)


def _say(finding: Finding) -> bool:
    """Print one line; returns whether it is a fault."""
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
    """Compare the package's requirements with the installed versions."""
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
    """Look for the system's Chromium, or Playwright's own."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None and _version("playwright"):
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            own = playwright.chromium.executable_path
        found = own if Path(own).is_file() else None
    missing = f"none found, needed for: {OPTIONAL['playwright']}; playwright install chromium"
    return Finding("ok" if found else "--", "Chromium", found or missing)


def _of_model(model: Any) -> Iterator[Finding]:
    """Describe a loaded model: its kind, its size and its feed-forward blocks."""
    from torch import nn

    from ..anatomy import UnsupportedModel, find_blocks, stored, unwrapped, weights
    from ..skipping.replacement import cost

    inner = unwrapped(model)
    whole, name = sum(map(stored, weights(inner))), inner.config.name_or_path or inner.config.model_type
    dtype = str(inner.dtype).removeprefix("torch.")
    yield Finding("ok", name, f"{_size(whole)} of weights as stored, computing in {dtype}")
    yield from _around(model)
    try:
        blocks = find_blocks(model)
    except UnsupportedModel as error:
        return (yield Finding("!!", "FFN blocks", str(error)))
    path, stack = next(
        (path, part)
        for path, part in inner.named_modules()
        if isinstance(part, nn.ModuleList) and blocks[0].layer in part.modules()
    )
    yield Finding("ok", "stack", f"{path}: {len(stack)} {type(blocks[0].layer).__name__}")
    inside = {id(one): stored(one) for block in blocks for module in block.modules for one in weights(module)}
    held = sum(inside.values())
    read = sum(cost(inner, block.modules).bytes for block in blocks)
    share, saved = held / whole, read / (whole - held + read) / 4
    where = "" if len(blocks) == len(stack) else f" (layers {', '.join(str(block.number) for block in blocks)})"
    shape = "parallel to attention" if blocks[0].parallel else "behind attention"
    yield Finding(
        "ok",
        "FFN blocks",
        f"{len(blocks)} found{where}, {shape}, {share:.0%} of the weights; a quarter of them skipped saves "
        f"{saved:.0%} of the bytes read, {1 / (1 - saved):.2f}x in speed if nothing else took time",
    )
    return None


def _around(model: Any) -> Iterator[Finding]:
    """Describe wrappers, quantisation and compilation of a model."""
    from ..anatomy import quantised, unwrapped, wrappers
    from ..patching import compiled

    if around := wrappers(model):
        yield Finding("ok", "wrappers", f"{' around '.join(around)} around the model")
    if forms := quantised(model):
        method = getattr(getattr(unwrapped(model).config, "quantization_config", None), "quant_method", None)
        named = ", ".join(f"{count} {form}" for form, count in sorted(forms.items()))
        yield Finding("ok", "quantised", named + (f" ({getattr(method, 'value', method)})" if method else ""))
    if parts := compiled(model):
        yield Finding(
            "--",
            "compiled",
            f"{len(parts)} parts ({', '.join(sorted(set(parts)))}); they run uncompiled while measured",
        )


def _version(package: str) -> str:
    """Installed version of a package, "" where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _size(count: int) -> str:
    """A number of bytes with a unit."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024  # type: ignore[assignment]
    return f"{count:.1f} GiB"
