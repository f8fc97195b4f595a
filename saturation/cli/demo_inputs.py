"""Inputs of the demo: the bundled world for the bundled model, real tasks or given texts for other models."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..recording import Text
from ..tasks import Example, Task, bundled, published

# Other models are hundreds of times larger than the bundled one. With these numbers SmolLM2 (135 M parameters) takes
# less than 15 minutes on two cores; data/README.md lists the time of each part.
SCORED, FITTED = 12, 12  # texts
CUT = 128  # tokens read of each text
ALONE, CONTROL = 6, 2  # of the scored texts, for leaving out one block at a time; the same for the untrained model
LEAST = 16  # least tokens of a given text
PIECES = 8  # given texts that the model continues after their first half
NEW = 32  # tokens of a longer answer
PROMPTS = 8  # prompts of MT-Bench: the shortest of each of its eight categories
REAL = {
    "wikitext-2": "wikitext-2/test.txt",
    "freebaseqa": "freebaseqa/FreebaseQA-dev.txt",
    "commonsense_qa": "commonsense_qa/cqa_test.json",
    "mt_bench": "mt_bench/question.jsonl",
}
QUESTIONS = {"freebaseqa": 32, "commonsense_qa": 32}
SHOWN = 2  # answered questions before each one of FreebaseQA, which show the format


@dataclass(frozen=True)
class Material:
    """Texts and tasks of a demo.

    Attributes
    ----------
    words
        Description of these texts for the reader.
    scored, calibration
        Texts, or their token ids: those to measure loss and cosine on, and those to fit policies to.
    prompts
        Prompts for generation, as a user's turns where `chat` is true; the first is drawn token by token.
    tasks
        Name -> the task, and the scores to draw.
    alone, control
        Number of scored texts to read with one block left out at a time, by the model and by the untrained one; None
        is all.
    seeds
        Seeds of random skipping.
    shares
        Shares of all FFN blocks to skip in the tasks.
    """

    words: str
    scored: Sequence[Text]
    calibration: Sequence[Text]
    prompts: Sequence[str]
    tasks: Mapping[str, tuple[Task, tuple[str, ...]]]
    chat: bool = False
    new_tokens: int = NEW
    alone: int | None = ALONE
    control: int | None = CONTROL
    seeds: tuple[int, ...] = (0, 1)
    shares: tuple[float, ...] = (0.05,)
    labels: Mapping[str, str] = field(default_factory=dict)  # task -> name of its agreement score


def world() -> Material:
    """Material from the bundled world, for the model trained on it."""
    asked = {"factoid": ("correct", 100), "problems": ("correct", 48), "summaries": ("rouge_L", 30)}
    lines = bundled("calibration")
    return Material(
        words="held-out texts of the bundled world (data/README.md)",
        scored=[example.text for example in bundled("validation").head(64)],
        calibration=[example.text for example in lines],
        prompts=[example.prompt for example in lines],
        tasks={name: (bundled(name).head(count), (score,)) for name, (score, count) in asked.items()},
        new_tokens=64,
        alone=None,
        control=None,
        seeds=(0, 1, 2),
        shares=(0.15, 0.25),
    )


def material(name: str, tokenizer: Any, texts: Sequence[str] | None, source: str | None = None) -> Material:
    """Choose the material for a model: given texts, its own world, or the real tasks of this machine.

    Parameters
    ----------
    name
        The name given to `load`.
    tokenizer
        Tokenizer of the model.
    texts
        Given texts, or None.
    source
        Name of their source.

    Raises
    ------
    ValueError
        For given texts that are too few or too short.
    """
    if texts is not None:
        return _given(texts, tokenizer, source or "the texts given")
    if name == "demo":
        return world()
    folder = os.environ.get("SATURATION_REAL_DATA")
    if folder and all((Path(folder) / path).is_file() for path in REAL.values()):
        return _real(Path(folder), tokenizer)
    return _invented(tokenizer)


def _real(folder: Path, tokenizer: Any) -> Material:
    """Material from WikiText-2, FreebaseQA, CommonsenseQA and MT-Bench."""
    found = {name: published(name, folder / path) for name, path in REAL.items()}
    articles = [example.text for example in found["wikitext-2"]]
    prompts, chat = _first_turns(found["mt_bench"]), bool(tokenizer.chat_template)
    facts = _with_answers(found["freebaseqa"], SHOWN).head(QUESTIONS["freebaseqa"])
    choices = found["commonsense_qa"].head(QUESTIONS["commonsense_qa"])
    return Material(
        words=f"the first {CUT} tokens of articles of WikiText-2",
        scored=cut(articles[:SCORED], tokenizer),
        calibration=cut(articles[SCORED : SCORED + FITTED], tokenizer),
        prompts=[example.prompt for example in prompts],
        tasks={
            "freebaseqa": (replace(facts, max_new_tokens=12), ("correct", "agreement")),
            "commonsense_qa": (choices, ("correct", "agreement")),
            "mt_bench": (prompts, ("agreement",)),
        },
        chat=chat,
        labels={"commonsense_qa": "choices as in the dense run"},
    )


def _invented(tokenizer: Any) -> Material:
    """Material from the bundled world for a model not trained on it: plain English to read, summarise and discuss."""
    read = bundled("validation").examples
    summaries, talks = bundled("summaries").examples, bundled("conversations").examples
    first = [replace(example, turns=()) for example in _spread(talks, PROMPTS)]
    return Material(
        words="texts of the bundled world, which this model has never read of (data/README.md)",
        scored=cut([example.text for example in _spread(read, 2 * SCORED)], tokenizer),
        calibration=cut([example.text for example in bundled("calibration")], tokenizer),
        prompts=[example.prompt for example in first],
        tasks={
            "summaries": (
                replace(bundled("summaries"), examples=_spread(summaries, PROMPTS), max_new_tokens=NEW),
                ("rouge_L", "agreement"),
            ),
            "conversations": (
                replace(bundled("conversations"), examples=tuple(first), max_new_tokens=NEW),
                ("agreement",),
            ),
        },
        chat=bool(tokenizer.chat_template),
        alone=10,  # these texts are shorter
        control=3,
    )


def _given(texts: Sequence[str], tokenizer: Any, source: str) -> Material:
    """Material from given texts: every other one is scored, the rest is for fitting; first halves are continued."""
    whole = [text for text in texts if len(cut([text], tokenizer)[0]) >= LEAST]
    if len(whole) < 4:
        raise ValueError(
            f"expected at least 4 texts of {LEAST} tokens or more in {source}, got {len(whole)}; give more, one to a "
            "line or as 'text' in the lines of a .jsonl file"
        )
    scored, fitted = whole[0::2][:SCORED], whole[1::2][:FITTED]
    halves = [_halved(number, text, tokenizer) for number, text in enumerate(scored[:PIECES])]
    going_on = Task("continuations", "summary", tuple(halves), NEW, source=source)
    return Material(
        words=f"the first {CUT} tokens of texts of {source}",
        scored=cut(scored, tokenizer),
        calibration=cut(fitted, tokenizer),
        prompts=[example.prompt for example in halves],
        tasks={"continuations": (going_on, ("agreement",))},
    )


def cut(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Token ids of the beginning of each text, with the tokenizer's special tokens."""
    return [tokenizer(text[: 40 * CUT]).input_ids[:CUT] for text in texts]  # 40 characters per token are enough


def _halved(number: int, text: str, tokenizer: Any) -> Example:
    ids = tokenizer(text[: 40 * CUT], add_special_tokens=False).input_ids[:CUT]
    first, rest = (
        tokenizer.decode(part, skip_special_tokens=True) for part in (ids[: len(ids) // 2], ids[len(ids) // 2 :])
    )
    return Example(f"{number}", prompt=first, references=(rest,))


def _first_turns(task: Task) -> Task:
    """The first turns of conversations: the shortest of each kind, sorted by length."""
    kinds: dict[str, list[Example]] = {}
    for example in sorted(task, key=lambda example: len(example.prompt)):
        kinds.setdefault(example.kind, []).append(example)
    each = max(PROMPTS // len(kinds), 1)
    kept = [replace(example, turns=()) for own in kinds.values() for example in own[:each]]
    return replace(task, examples=tuple(sorted(kept, key=lambda example: len(example.prompt))), max_new_tokens=NEW)


def _with_answers(task: Task, shown: int) -> Task:
    """Put the last questions of a set with their answers before each of the others, to show the format."""
    form = "".join(f"{one.prompt} {one.answers[0]}\n\n" for one in task.examples[-shown:])
    return replace(task, examples=tuple(replace(one, prompt=form + one.prompt) for one in task.examples[:-shown]))


def _spread(examples: Sequence[Example], count: int) -> tuple[Example, ...]:
    """`count` examples, spread evenly over the file."""
    return tuple(examples[:: max(len(examples) // count, 1)][:count])
