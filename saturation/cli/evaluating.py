"""`saturation eval`: scores policies and the dense model, on our tasks or on those of lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .app import SKIPPED_ANSWER, app, as_text, example, plainly
from .arguments import open_model, read_policy, read_tasks, writable

if TYPE_CHECKING:
    import pandas as pd

    from ..policies import Policy
    from ..tasks import Task

OF_DENSE = ("agreement", "kl")  # already compare a run with the dense run, whose own values are 1 and 0
SCORED = (
    "mean over n rows and its 95 % interval; difference from the dense run, paired by example; p of McNemar's exact "
    "test\nfor shares (examples lost and won), of Wilcoxon's signed-rank test for other scores, not corrected for "
    "their number.\nwrong and collapsed (it loops or does not end) add up to 1 with correct. Against the dense run, "
    "token by token:\nagreement, kl (nats), dense_nll (loss of the text under the dense model, nats per token)"
)


@app.command("eval", epilog=example("eval demo -t factoid --policy static:layers=3+4 --examples 20"))
@plainly
def evaluate(
    model: options.Model,
    task: Annotated[list[str] | None, options.TASKS] = None,
    lm_eval: Annotated[
        str | None, typer.Option("--lm-eval", help="tasks of lm-evaluation-harness instead, separated by commas")
    ] = None,
    include_path: Annotated[Path | None, typer.Option(help="--lm-eval: a folder of task files of your own")] = None,
    num_fewshot: Annotated[int | None, typer.Option(help="--lm-eval: examples in the prompt")] = None,
    policy: options.PolicyTexts = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="keep the rows, a .csv or .parquet file")] = None,
    scoring: options.Scoring = options.SCORING,
    opening: options.Opening = options.OPENING,
) -> None:
    """Score policies beside the dense model and compare them with it, example by example."""
    if bool(task) == bool(lm_eval):
        raise ValueError(
            f"expected either --task or --lm-eval, got {'both' if task else 'neither'}; name the tasks with one of them"
        )
    if task and (include_path is not None or num_fewshot is not None):
        raise ValueError("expected --include-path and --num-fewshot with --lm-eval only, got --task; leave them out")
    if out is not None:
        writable(out, "the rows", ".csv", ".parquet")
    tasks, rules = read_tasks(task or (), scoring.examples), rules_of(policy or [])
    from ..atomic import writing
    from ..harness import evaluating as harness

    if lm_eval:
        harness.installed()
    both = open_model(model, opening)
    if lm_eval:
        names = [name.strip() for name in lm_eval.split(",")]
        how: dict[str, Any] = {"include_path": include_path, "num_fewshot": num_fewshot, "limit": scoring.examples}
        how |= {"apply_chat_template": bool(scoring.chat), "batch_size": scoring.batch_size}
        rows = _stacked(harness.evaluate(*both, names, policy=rule, **how) for rule in rules.values())
    else:
        rows = _stacked(_beside_dense(both, tasks, rules, **scoring.how()))
    if out is not None:
        with writing(out, "the rows") as part:
            rows.to_csv(part, index=False) if out.suffix == ".csv" else rows.to_parquet(part, index=False)
    typer.echo("\n\n".join(_said(rows)) if task else as_text(rows))


def _beside_dense(
    both: tuple[Any, Any], tasks: Sequence[Task], rules: dict[str, Policy | None], **how: Any
) -> Iterator[pd.DataFrame]:
    """Rows of each task: those of the dense run, and those of every policy with its drift."""
    from ..quality import against
    from ..quality import evaluate as evaluated

    for each in tasks:
        dense = evaluated(*both, each, **how)
        beside = against(*both, each, dense, dense, policy=None, **how) if len(rules) > 1 else dense
        yield from (
            beside if rule is None else evaluated(*both, each, policy=rule, dense=dense, **how)
            for rule in rules.values()
        )


def _stacked(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(list(tables), ignore_index=True)


def _said(rows: pd.DataFrame) -> Iterator[str]:
    """The report on rows: skip ratios, means with intervals, and differences from the dense model."""
    from ..quality import summarise

    summary = summarise(rows)
    skipped = summary[["task", "policy", "nominal", "decode", "total", "answer"]].drop_duplicates(["task", "policy"])
    if (skipped["policy"] != "dense").any():
        yield f"{SKIPPED_ANSWER}\n{as_text(skipped[skipped['policy'] != 'dense'])}"
    yield f"{SCORED}\n{as_text(_scored(rows, summary))}"


def _scored(rows: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """A row per task, score and policy, with its difference from the dense run; empty where there is none."""
    import pandas as pd

    from ..quality import compare

    runs = {name: own.infer_objects() for name, own in rows.groupby(["task", "policy"], sort=False)}
    found: list[pd.DataFrame] = []
    for (task, score), own in summary.groupby(["task", "score"], sort=False):
        drift = score in OF_DENSE
        shown = own.loc[
            (own["policy"] != "dense") | (not drift), ["task", "score", "policy", "n", "mean", "low", "high"]
        ]
        versus = [
            {} if drift or policy == "dense" else compare(runs[task, policy], runs[task, "dense"], score)
            for policy in shown["policy"]
        ]
        found.append(shown.join(pd.DataFrame(versus, index=shown.index).drop(columns="n", errors="ignore")))
    return pd.concat(found)


def rules_of(given: list[str]) -> dict[str, Policy | None]:
    """Policies by their names in a table, the dense model first."""
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
