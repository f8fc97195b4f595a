"""What decides a training run, where it stands, and the file from which a killed run goes on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

Row = dict[str, float]
NEUTRAL = ("threads", "workers", "checkpoint_minutes")  # settings that change nothing of what is learned


@dataclass(frozen=True)
class Settings:
    """Everything that decides what is learned. ``train_demo.HELP`` says what each one means."""

    seed: int = 0
    layers: int = 16
    hidden: int = 128
    intermediate: int = 384
    heads: int = 4
    vocabulary: int = 1536
    context: int = 1024
    row: int = 256
    batch_tokens: int = 1024
    tokens: int = 12_000_000
    minutes: float = 0.0
    learning_rate: float = 2e-3
    warmup: float = 0.04
    weight_decay: float = 0.1
    clip: float = 1.0
    checkpoint_minutes: float = 2.0
    threads: int = 0
    workers: int = 0


@dataclass
class Run:
    """A run in progress: what a checkpoint holds, apart from the weights."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    pending: list[float] = field(default_factory=list)  # losses since the last line of the log
    lines: list[Row] = field(default_factory=list)
    dynamics: list[Row] = field(default_factory=list)  # a row per layer at a few points of the run

    def progress(self, settings: Settings) -> float:
        """Share of the schedule that is done, by tokens or, where that is given and sooner, by minutes."""
        timed = self.seconds / (60 * settings.minutes) if settings.minutes else 0.0
        return max(self.tokens / settings.tokens, timed)


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, run: Run, settings: Settings
) -> None:
    """Write the state beside its place and move it there, so that a kill leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "run": asdict(run)}
    torch.save(state | {"settings": asdict(settings)}, part)
    part.replace(path)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, settings: Settings) -> Run:
    """Go on where a run of the same settings stopped; a new run where there is no checkpoint."""
    if not path.exists():
        return Run()
    state = torch.load(path, map_location="cpu", weights_only=True)
    different = _difference(state["settings"], asdict(settings))
    if different:
        raise ValueError(
            f"expected a checkpoint of a run with these settings, but that of {path} has {different}: "
            "give its settings to go on with it, give another --checkpoint, or delete it to start afresh"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return Run(**state["run"])


def _difference(theirs: dict, ours: dict) -> str:
    keys = [key for key in ours if key not in NEUTRAL and theirs.get(key) != ours[key]]
    return ", ".join(f"{key} {theirs.get(key)} instead of {ours[key]}" for key in keys)
