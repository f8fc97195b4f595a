"""`saturation tune`: chooses the policy that leaves most bytes unread within a budget, with the evidence."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .app import app, as_text, example, plainly
from .arguments import open_model, read_tasks, writable_folder
from .evaluating import rules_of

if TYPE_CHECKING:
    from ..tasks import Task
    from ..tuning import Tuned

_SCORED = ("answer", "number", "choice")  # scores of tasks whose answers are right or wrong
_POLICY = ("policy.json", "policy.safetensors")
_COLUMNS = (
    "unread: share of the FFN bytes that decoded tokens left unread, skipped: share of the blocks; loss per example "
    "and its\n95 % interval over n examples; p: of a mean loss above the budget, empty where it was not tested"
)


@app.command(epilog=example("tune demo -t factoid --policy static:layers=3+4 -o runs/tuned"))
@plainly
def tune(
    model: options.Model,
    task: Annotated[list[str], options.TASKS],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for policy, evidence, figure and sentence")],
    policy: options.PolicyTexts = None,
    budget: Annotated[float, typer.Option(help="mean loss per example that may not be passed")] = 0.05,
    confidence: Annotated[
        float | None, typer.Option(help="guarantee it with this probability, such as 0.9; default: no guarantee")
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="column of losses in [0, 1], such as collapsed; default: answers that the dense model has and the "
            "policy has not"
        ),
    ] = None,
    confirm: Annotated[
        float | None, typer.Option(help="share of the examples to confirm the choice on, such as 0.25; default: none")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="of policies that draw; default: 0")] = None,
    scoring: options.Scoring = options.SCORING,
    opening: options.Opening = options.OPENING,
) -> None:
    """Choose the policy that leaves most bytes unread within a budget; what is in the folder is not run again."""
    from ..sweeps import sweep as swept
    from ..tuning import promised
    from ..tuning import tune as tuned

    tasks, rules = read_tasks(task, scoring.examples), rules_of(policy or [])
    if len(rules) < 2:
        raise ValueError("expected policies to choose among, got none; give --policy once for each of them")
    _scored(tasks, loss)
    promised(budget, confidence, examples=sum(map(len, tasks)), confirm=confirm)
    writable_folder(out)
    loaded, tokenizer = open_model(model, opening)
    rows = swept(loaded, tokenizer, rules, tasks, out=out, seeds=seed or (0,), **scoring.how())
    found = tuned(rows, budget=budget, confidence=confidence, loss=loss, policies=rules, confirm=confirm)
    written = keep(found, out)
    typer.echo(f"{as_text(found.evidence)}\n{_COLUMNS}\n{found.sentence}")
    for path in written:
        typer.echo(str(path))


def keep(found: Tuned, folder: Path) -> list[Path]:
    """Write policy, evidence, figure and sentence into a folder, all or none.

    If the dense model was chosen, the folder holds no policy, and an earlier one is removed.
    """
    from .. import figures, policies
    from ..atomic import writing_together

    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".tuned") as place:
        aside = Path(place)
        if found.policy is not None:
            policies.save(found.policy, aside / _POLICY[0])
        found.evidence.to_csv(aside / "evidence.csv", index=False)
        (aside / "sentence.txt").write_text(f"{found.sentence}\n", encoding="utf-8")
        figures.save(figures.tuned(found.evidence, setting=found.setting, budget=found.budget), aside / "tuned.pdf")
        made = sorted(path.name for path in aside.iterdir())
        places = [folder / name for name in made]
        with writing_together(places, "what was chosen") as parts:
            for name, part in zip(made, parts, strict=True):
                shutil.copyfile(aside / name, part)
    for name in _POLICY:
        if name not in made:
            (folder / name).unlink(missing_ok=True)
    return places


def _scored(tasks: Sequence[Task], loss: str | None) -> None:
    """Raise ValueError for tasks without right and wrong answers, unless another loss is named."""
    if loss is None and (others := [each for each in tasks if each.score not in _SCORED]):
        raise ValueError(
            f"expected tasks whose answers are right or wrong, got {others[0].name!r}, which is scored as "
            f"{others[0].score}; leave it out, or name a column of losses in [0, 1] with --loss"
        )
