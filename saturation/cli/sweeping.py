"""`saturation sweep`: policies on tasks, from the shell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import (
    TASKS,
    BatchSize,
    Device,
    DeviceMap,
    Dtype,
    Examples,
    Model,
    PolicyTexts,
    Revision,
    Stride,
    TaskChat,
    Trust,
    app,
    as_text,
    open_model,
    plainly,
    read_policy,
)

if TYPE_CHECKING:
    from ..tasks import Task


@app.command()
@plainly
def sweep(
    model: Model,
    task: Annotated[list[str], TASKS],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for cells, rows.csv and summary.csv")],
    policy: PolicyTexts = None,
    examples: Examples = None,
    seed: Annotated[list[int] | None, typer.Option(help="of policies that draw; default: 0")] = None,
    chat: TaskChat = None,
    stride: Stride = None,
    batch_size: BatchSize = 16,
    device: Device = None,
    dtype: Dtype = None,
    device_map: DeviceMap = None,
    revision: Revision = None,
    trust_remote_code: Trust = False,
) -> None:
    """Score policies beside the dense model; what is in the folder already is not run again."""
    from ..quality import summarise
    from ..sweeps import sweep as swept
    from ..trace import writing

    tasks = read_tasks(task, examples)
    policies = [None, *map(read_policy, policy or ())]
    loaded, tokenizer = open_model(model, device, dtype, device_map, revision, trust_remote_code)
    options: dict[str, Any] = {"chat": chat, "stride": stride, "batch_size": batch_size}
    rows = swept(loaded, tokenizer, policies, tasks, out=out, seeds=seed or (0,), **options)
    summary = summarise(rows)
    for name, table in {"rows": rows, "summary": summary}.items():
        with writing(out / f"{name}.csv", "the table") as part:
            table.to_csv(part, index=False)
    typer.echo(as_text(summary))


def read_tasks(names: Sequence[str], examples: int | None) -> list[Task]:
    """Tasks as the command line names them, of so many examples at most."""
    tasks = [_task(name) for name in names]
    called = [each.name for each in tasks]
    if twice := [name for name in called if called.count(name) > 1]:
        raise ValueError(f"expected tasks with a name each, got {twice[0]!r} twice; leave one out or rename its file")
    return tasks if examples is None else [each.head(examples) for each in tasks]


def _task(name: str) -> Task:
    from ..tasks import bundled, published, read

    kind, equals, path = name.partition("=")
    if equals and not (name.endswith(".jsonl") and Path(name).is_file()):
        return published(kind, path)
    return read(name) if name.endswith(".jsonl") else bundled(name)
