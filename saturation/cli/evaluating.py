"""`saturation eval`: policies beside the dense model, on our tasks or on those of lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import (
    TASKS,
    BatchSize,
    Chat,
    Device,
    DeviceMap,
    Dtype,
    Examples,
    Model,
    PolicyTexts,
    Revision,
    Trust,
    app,
    as_text,
    open_model,
    plainly,
    read_policy,
    writable,
)
from .sweeping import read_tasks

if TYPE_CHECKING:
    import pandas as pd

    from ..policies import Policy


@app.command("eval")
@plainly
def evaluate(
    model: Model,
    task: Annotated[list[str] | None, TASKS] = None,
    lm_eval: Annotated[
        str | None, typer.Option("--lm-eval", help="tasks of lm-evaluation-harness instead, separated by commas")
    ] = None,
    include_path: Annotated[Path | None, typer.Option(help="--lm-eval: a folder of task files of your own")] = None,
    num_fewshot: Annotated[int | None, typer.Option(help="--lm-eval: examples in the prompt")] = None,
    policy: PolicyTexts = None,
    examples: Examples = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="keep the rows, a .csv or .parquet file")] = None,
    chat: Chat = False,
    batch_size: BatchSize = 16,
    device: Device = None,
    dtype: Dtype = None,
    device_map: DeviceMap = None,
    revision: Revision = None,
    trust_remote_code: Trust = False,
) -> None:
    """Score policies beside the dense model and compare them with it, example by example."""
    if bool(task) == bool(lm_eval):
        raise ValueError(
            f"expected either --task or --lm-eval, got {'both' if task else 'neither'}; name the tasks with one of them"
        )
    if out is not None:
        writable(out, "the rows", ".csv", ".parquet")
    tasks, rules = read_tasks(task or (), examples), _rules(policy or [])
    from .. import quality
    from ..harness import evaluating as harness
    from ..trace import writing

    if lm_eval:
        harness.installed()
    both = open_model(model, device, dtype, device_map, revision, trust_remote_code)
    if lm_eval:
        names = [name.strip() for name in lm_eval.split(",")]
        options: dict[str, Any] = {"include_path": include_path, "num_fewshot": num_fewshot, "limit": examples}
        options |= {"apply_chat_template": chat, "batch_size": batch_size}
        rows = _stacked(harness.evaluate(*both, names, policy=rule, **options) for rule in rules.values())
    else:
        options = {"chat": chat or None, "batch_size": batch_size}  # None: as the task needs it
        rows = _stacked(
            quality.evaluate(*both, each, policy=rule, **options) for each in tasks for rule in rules.values()
        )
    if out is not None:
        with writing(out, "the rows") as part:
            rows.to_csv(part, index=False) if out.suffix == ".csv" else rows.to_parquet(part, index=False)
    typer.echo("\n\n".join(_said(rows)) if task else as_text(rows))


def _stacked(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(list(tables), ignore_index=True)


def _said(rows: pd.DataFrame) -> Iterator[str]:
    """What can be said of rows: means with intervals, and the differences from the dense model."""
    from ..quality import summarise

    summary = summarise(rows)
    yield as_text(summary)
    if len(versus := _versus_dense(rows, summary)):
        yield f"against the dense model, paired by example:\n{as_text(versus)}"


def _versus_dense(rows: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Each score of each policy against the dense run's on the same examples."""
    import pandas as pd

    from ..quality import compare, rise

    runs = {name: own.infer_objects() for name, own in rows.groupby(["task", "policy"], sort=False)}
    compared = []
    for task, policy, score in summary[["task", "policy", "score"]].itertuples(index=False):
        if policy != "dense" and score in rows:
            pair = runs[task, policy], runs[task, "dense"]
            found = compare(*pair, score)
            if score == "nll":
                found["difference"] = rise(*(run.set_index("example") for run in pair))[
                    0
                ]  # per token, as in the summary
            compared.append({"task": task, "policy": policy, "score": score} | found)
    return pd.DataFrame(compared)


def _rules(given: list[str]) -> dict[str, Policy | None]:
    """Policies by what they are called in a table, the dense model first."""
    rules: dict[str, Policy | None] = {"dense": None}
    for text in given:
        rule = read_policy(text)
        if rule.describe() in rules:
            raise ValueError(
                f"expected policies that a table can tell apart, got {rule.describe()!r} twice; run one of them, or "
                "saturation.sweep with names of your own"
            )
        rules[rule.describe()] = rule
    return rules
