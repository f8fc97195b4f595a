"""`saturation sweep`: policies on tasks, from the shell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .app import BatchSize, Device, DeviceMap, Dtype, Model, Revision, Trust, app, open_model, plainly, read_policy

if TYPE_CHECKING:
    from ..tasks import Task


@app.command()
@plainly
def sweep(
    model: Model,
    task: Annotated[
        list[str],
        typer.Option(
            "--task", "-t", help="a bundled task, a .jsonl file, or a published set with its file: gsm8k=test.jsonl"
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for cells, rows.csv and summary.csv")],
    policy: Annotated[
        list[str] | None, typer.Option("--policy", help="JSON, or a file of it; the dense model is always run")
    ] = None,
    examples: Annotated[int | None, typer.Option(help="of each task at most")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="of policies that draw; default: 0")] = None,
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

    tasks = [_task(name) for name in task]
    policies = [None, *map(read_policy, policy or ())]
    loaded, tokenizer = open_model(model, device, dtype, device_map, revision, trust_remote_code)
    rows = swept(
        loaded,
        tokenizer,
        policies,
        [each.head(examples) for each in tasks] if examples is not None else tasks,
        out=out,
        seeds=seed or (0,),
        batch_size=batch_size,
    )
    summary = summarise(rows)
    for name, table in {"rows": rows, "summary": summary}.items():
        with writing(out / f"{name}.csv", "the table") as part:
            table.to_csv(part, index=False)
    typer.echo(summary.to_string(index=False, float_format=lambda value: f"{value:.4f}"))


def _task(name: str) -> Task:
    from ..tasks import bundled, published, read

    kind, equals, path = name.partition("=")
    if equals:
        return published(kind, path)
    return read(name) if name.endswith(".jsonl") else bundled(name)
