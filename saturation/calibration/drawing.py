"""Drawing of calibration texts: whole examples, up to a budget of real tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from ..recording import context
from ..tasks import Task
from . import control_texts, self_generated
from .formats import FORMATS, SEVERAL, possible, usual
from .sample import Sample
from .sources import CONTROLS, GENERATED, MIXTURE, Source, kinds, open_source
from .token_budget import Budget, Texts, fill

LONGEST = 2048  # most tokens of a text where the model's context is longer, as in the papers on pruning


def draw(
    model: PreTrainedModel,
    tokenizer: Any,
    source: str | Path | Task | Source | Sequence[str],
    *,
    tokens: int = 16_384,
    seed: int = 0,
    format: str | None = None,
    shots: int | None = None,
    length: int | None = None,
    whole: bool = True,
    keep: float = 1.0,
    **options: Any,
) -> Sample:
    """Draw tokenised calibration texts from a source, up to a budget of real tokens.

    Parameters
    ----------
    model, tokenizer
        As `load` gives them. The model is read for its context and vocabulary; it runs only for the source
        "generated".
    source
        As for `open_source`, such as "stories", "mixture", a task, "hub:c4" or "generated".
    tokens
        The budget: real tokens of all texts, including the tokenizer's special tokens.
    seed
        Seed of the order of examples, and of control and generated texts.
    format
        One of `FORMATS`. None: texts and conversations unchanged, questions with their answer, and with their
        reasoning where the prompt asks for it.
    shots
        Questions in one text, for "icl" and "cot"; None takes as many as fit into `length`.
    length
        Most tokens of a text; None: the model's context, or 2,048 where that is longer.
    whole
        False cuts texts: longer ones to `length` tokens at a random place, and the last one to the budget, which is
        then filled exactly.
    keep
        Share of the "generated" texts to keep, those of lowest perplexity under the model.
    **options
        For sets of the hub: `split`, `revision`, `examples`, `columns` and so on.

    Returns
    -------
    Sample

    Raises
    ------
    ValueError
        For a source with too few tokens (the message says how many it has), a format or shots that it cannot have,
        numbers out of range, and as for `open_source`.

    Notes
    -----
    The unit is the real token: counting padding would confound a format with its length (Bandari et al., EMNLP 2024,
    arXiv 2410.07461, count padding). With whole examples up to 5 % of the budget may stay empty; `Sample.tokens` is the
    number of tokens drawn.
    """
    found = open_source(source, **options)
    _check(found, tokens, shots, length, keep, format, context(model))
    limit = length or min(context(model) or LONGEST, LONGEST)
    budget = Budget(tokens, seed, limit, whole)
    if found.name == MIXTURE:
        return _mixed(tokenizer, budget)
    if found.task is not None:
        return _drawn(tokenizer, found, budget, format, shots)
    if found.name in CONTROLS:
        rows = control_texts.rows(found.name, model, tokenizer, tokens, limit, np.random.default_rng(seed))
        return Sample(tuple(map(tuple, rows)), found.name, "text", **budget.told)
    rows, content = self_generated.rows(model, tokenizer, tokens, limit, seed=seed, keep=keep, whole=whole)
    form = f"keep {keep:g}" if keep < 1 else "text"
    return Sample(tuple(map(tuple, rows)), found.name, form, content=content, **budget.told)


def _drawn(tokenizer: Any, source: Source, budget: Budget, form: str | None, shots: int | None) -> Sample:
    """Draw texts of a task."""
    task = source.task
    assert task is not None
    form, shots = _format(source.name, task, form, shots)
    texts = Texts(tokenizer, task, form, shots, budget)
    chosen = fill(texts, budget, source.name)
    return Sample(
        tuple(tuple(text.ids) for text in chosen),
        source.name,
        form,
        shots=shots,
        examples=tuple(text.examples for text in chosen),
        revision=source.revision,
        content=source.content,
        **budget.told,
    )


def _format(name: str, task: Task, form: str | None, shots: int | None) -> tuple[str, int | None]:
    """The format, and the number of questions in a text."""
    can, (own, several) = possible(task), usual(task)
    if form is None:
        form, shots = own, several if shots is None else shots
    if form not in can:
        raise ValueError(
            f"expected a format that {name!r} can have, {', '.join(can)}, got {form!r} "
            f"({FORMATS.get(form, 'unknown')}); choose one of these, or another source"
        )
    if shots is not None and form not in SEVERAL:
        raise ValueError(
            f"expected shots= only with the formats {' and '.join(SEVERAL)}, got {shots} with {form!r}; leave it out"
        )
    return form, shots


def _check(
    found: Source,
    tokens: int,
    shots: int | None,
    length: int | None,
    keep: float,
    form: str | None,
    context: int | None,
) -> None:
    """Raise ValueError for options that are out of range, or that would be ignored."""
    if tokens < 1 or (shots is not None and shots < 1) or (length is not None and length < 2) or not 0 < keep <= 1:
        raise ValueError(
            f"expected tokens >= 1, shots >= 1, length >= 2 and 0 < keep <= 1, got {tokens}, {shots}, {length} and "
            f"{keep:g}; correct them"
        )
    if length is not None and context is not None and length > context:
        raise ValueError(f"expected texts that fit into the model's context of {context} tokens, got length={length}")
    if keep < 1 and found.name != GENERATED:
        raise ValueError(f"expected keep= only with {GENERATED!r}, got {keep:g} with {found.name!r}; leave it out")
    if found.task is None and (form is not None or shots is not None):
        given = f"format={form!r}" if form is not None else f"shots={shots}"
        raise ValueError(f"expected no format of {found.name!r}, which has but one, got {given}; leave it out")


def _mixed(tokenizer: Any, budget: Budget) -> Sample:
    """Draw the same share of every bundled kind, each in its usual format.

    Examples are whole, so a kind may leave a rest of its share, which goes to the next; kinds of long texts come first.
    """
    sources = sorted(map(open_source, kinds()), key=_typical, reverse=True)
    if not sources:
        raise ValueError("expected the bundled calibration texts, which come with a clone of the repository; clone it")
    parts: list[Sample] = []
    for number, source in enumerate(sources):
        left = budget.tokens - sum(part.tokens for part in parts)
        share = replace(budget, tokens=left // (len(sources) - number), slack=0.9)
        parts.append(_drawn(tokenizer, source, share, None, None))
    return replace(
        parts[0],
        source=MIXTURE,
        format="text",
        budget=budget.tokens,
        shots=None,
        ids=tuple(ids for part in parts for ids in part.ids),
        examples=tuple(one for part in parts for one in part.examples),
        content=" ".join(part.content for part in parts),
    )


def _typical(source: Source) -> float:
    """Mean number of characters of an example."""
    assert source.task is not None
    return float(np.mean([len(example.text or example.prompt) for example in source.task]))
