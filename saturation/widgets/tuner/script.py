"""A Python script that reproduces a state of the tuner."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...loading import Origin
from ...tasks import Task, bundled, names
from .state_run import TOGETHER, has_references
from .states import Asked, State

_IN_MEMORY = (
    "nothing says where this model came from (made in memory, or not loaded by st.load): in the "
    "notebook that has it, call "
    "model.save_pretrained(FOLDER) and tokenizer.save_pretrained(FOLDER), and set FOLDER here to that folder"
)
_UNSAVED = (
    "the arrays of this fitted policy are in no file yet: press Save policy in the tuner, and copy this script again, "
    "or set POLICY here to the file of the policy"
)
_OTHER = "POLICY holds another policy than the tuner had: save that one again and copy this script again"


@dataclass(frozen=True)
class Model:
    """The model of a script: how to load it, and how to verify it.

    Attributes
    ----------
    name
        Name as in a Trace.
    origin
        Source that it was loaded from; None for a model made in memory.
    weights, words
        Hashes of the weights and of the tokenizer, as for `sweeps.verify`.
    dtype, revision
        As in a Trace.
    device
        Its device; None where `load` would choose the same.
    """

    name: str
    origin: Origin | None
    weights: str
    words: str
    dtype: str = "float32"
    revision: str | None = None
    device: str | None = None


def source(state: State, asked: Asked, model: Model, file: Path | None = None) -> str:
    """A script that loads and verifies the model, generates text with the state's policy and scores it.

    Parameters
    ----------
    state, asked
        The state to reproduce, and what it was measured on.
    model
        The model of the state.
    file
        A saved policy with the arrays of the state's policy; None where there is none.

    Returns
    -------
    str
        Python source, which prints its results.
    """
    lines = [
        *_importing(state, asked),
        *_loading(model),
        "",
        *_writing(state, asked, file),
        *_scoring(state, asked),
        "",
    ]
    return "\n".join(lines)


def _importing(state: State, asked: Asked) -> Iterator[str]:
    scored = has_references(asked.task)
    yield from ["from dataclasses import replace", ""] * (scored or bool(state.arrays))
    yield from ["import pandas as pd", ""] * scored
    yield "import saturation as st"
    yield from ["from saturation.tasks import Example, Task"] * (asked.task is not None and not _on_shelf(asked.task))
    yield ""


def _loading(model: Model) -> Iterator[str]:
    origin = model.origin
    name = "FOLDER"
    if origin is None:
        yield f"FOLDER = {''!r}  # of {model.name}: model.save_pretrained(FOLDER), tokenizer.save_pretrained(FOLDER)"
        yield from ["if not FOLDER:", f"    raise SystemExit({_IN_MEMORY!r})"]
    else:
        name = repr(origin.name)
    given = dict(origin.options) if origin else {}
    given |= {"revision": model.revision} if model.revision and origin else {}
    given |= {"device": model.device} if model.device and "device_map" not in given else {}
    options = f", dtype={model.dtype!r}"  # the default of `load` depends on the device
    options += "".join(f", {option}={value!r}" for option, value in given.items())
    yield f"model, tokenizer = st.load({name}{options})"
    if origin is not None and origin.seed is not None:
        yield f"model = st.untrained(model, seed={origin.seed})"
    yield f"st.sweeps.verify(model, tokenizer, weights={model.weights!r}, words={model.words!r})"


def _writing(state: State, asked: Asked, file: Path | None) -> Iterator[str]:
    policy = state.policy
    if state.arrays:
        yield from _fitted(state, file)
    else:
        yield f"policy = {'None  # the dense model' if policy is None else f'st.{policy!r}'}"
    yield from _questions(asked)
    room = f"'max_new_tokens': {asked.max_new_tokens}, 'chat': {asked.chat}"
    yield f"options = {{{room}, 'batch_size': 1, 'record': False}}"
    yield from [
        "",
        "dense = st.generate(model, tokenizer, prompts, **options)",
        "runs = st.generate(model, tokenizer, prompts, policy=policy, **options)",
        "for prompt, before, after in zip(prompts, dense.texts, runs.texts, strict=True):",
        "    print(repr(prompt), 'dense:', repr(before), 'skipping:', repr(after), sep='\\n  ')",
        "print(f'{dense.tokens_per_second:.1f} tokens/s dense, {runs.tokens_per_second:.1f} skipping')",
    ]
    if policy is not None:
        yield "print(runs.ledger.ratios, f'ideal speed-up {runs.ledger.ideal:.3f}')"


def _fitted(state: State, file: Path | None) -> Iterator[str]:
    """Lines that load a fitted policy from its file, set its numbers, and verify that it is the state's."""
    given = json.loads(state.json)
    options = "".join(f", {name}={given[name]!r}" for name in ("count", "predicted", "decode_only", "sink"))
    yield f"POLICY = {str(file or '')!r}"
    yield from ["if not POLICY:", f"    raise SystemExit({_UNSAVED!r})"] * (file is None)
    yield f"policy = replace(st.policies.load(POLICY){options})"
    yield f"if policy.to_json() != {state.json!r}:"
    yield f"    raise SystemExit({_OTHER!r})"


def _questions(asked: Asked) -> Iterator[str]:
    """Lines that define the task and the prompts, taken from the task where it contains them."""
    task = asked.task
    if task is not None:
        if _on_shelf(task):
            yield f"task = st.tasks.bundled({task.name!r}).head({len(task)})"
        else:
            yield from [f"task = Task({task.name!r}, {task.score!r}, ("]
            yield from (f"    {example!r}," for example in task)
            yield f"), max_new_tokens={task.max_new_tokens}, source={task.source!r})"
        if asked.prompts == tuple(example.prompt for example in task)[: len(asked.prompts)]:
            yield f"prompts = [example.prompt for example in task.head({len(asked.prompts)})]"
            return
    yield from ["prompts = [", *(f"    {prompt!r}," for prompt in asked.prompts), "]"]


def _scoring(state: State, asked: Asked) -> Iterator[str]:
    if has_references(asked.task):
        policies = "(None,)" if state.policy is None else "(None, policy)"
        options = f"policy=one, chat={asked.chat}, batch_size={TOGETHER}"
        yield from [
            "",
            f"starts = range(0, len(task), {TOGETHER})  # the tuner scores so many at a time",
            f"parts = [replace(task, examples=task.examples[i : i + {TOGETHER}]) for i in starts]",
            "rows = [",
            f"    st.quality.evaluate(model, tokenizer, part, {options})",
            f"    for one in {policies}",
            "    for part in parts",
            "]",
            "print(st.quality.summarise(pd.concat(rows)).to_string(index=False))",
        ]


@lru_cache(maxsize=8)
def _on_shelf(task: Task) -> bool:
    """Whether a task equals the first examples of a bundled task."""
    try:
        return task.name in names() and bundled(task.name).head(len(task)) == task
    except FileNotFoundError:
        return False
