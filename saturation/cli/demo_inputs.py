"""What the demo reads, asks and writes on: for the bundled model its own world, for another real tasks or texts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..recording import Text
from ..tasks import Example, Task, bundled, published

# A model that is not the bundled one is hundreds of times as large. These numbers keep SmolLM2 (135 M parameters)
# under a quarter of an hour on two cores; what each part takes is in data/README.md.
SCORED, FITTED = 12, 12  # texts
CUT = 128  # tokens of each text that are read
ALONE, CONTROL = 6, 2  # of the scored texts, for leaving out one block at a time; the same for the untrained model
LEAST = 16  # tokens of a text of one's own
PIECES = 8  # of one's own texts, that the model writes on after their first half
NEW = 32  # tokens of an answer that is not short
PROMPTS = 8  # of MT-Bench: the shortest of each of its eight categories
REAL = {
    "wikitext-2": "wikitext-2/test.txt",
    "freebaseqa": "freebaseqa/FreebaseQA-dev.txt",
    "commonsense_qa": "commonsense_qa/cqa_test.json",
    "mt_bench": "mt_bench/question.jsonl",
}
QUESTIONS = {"freebaseqa": 32, "commonsense_qa": 32}
SHOWN = 2  # answered questions before each one of FreebaseQA: without any a model does not know the form


@dataclass(frozen=True)
class Material:
    """Texts and tasks of a demo.

    Attributes
    ----------
    words
        What these texts are, for a reader.
    scored, calibration
        Texts, or their token ids: those on which loss and cosine are measured, and those that policies are fitted to.
    prompts
        After which the model writes, as a user's turns where `chat` is true; the first is drawn token by token.
    tasks
        Name -> the task, and the scores of it that are drawn.
    alone, control
        How many of the scored texts are read with one block left out at a time, by the model and by the untrained
        one; None is all of them.
    seeds
        Of random skipping.
    shares
        Of all FFN blocks, where the model is asked.
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
    labels: Mapping[str, str] = field(default_factory=dict)  # task -> what its agreement is called


def world() -> Material:
    """The bundled world, for the model that was trained on it."""
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
    """What a model of this name is measured on: given texts, or its own world, or what this machine has.

    Parameters
    ----------
    name
        What `load` was given.
    tokenizer
        The model's.
    texts
        Texts of one's own, None for those that are at hand.
    source
        Where they come from, as the reader named it.

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
    """WikiText-2, FreebaseQA, CommonsenseQA and MT-Bench, as they are distributed."""
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
    """The bundled world for a model that does not know it: plain English to read, sum up and talk about."""
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
        alone=10,  # they are shorter
        control=3,
    )


def _given(texts: Sequence[str], tokenizer: Any, source: str) -> Material:
    """Texts of one's own: every other one is scored, the rest fitted to; the model goes on after first halves."""
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
    """Token ids of the beginning of each text, with the tokenizer's own special tokens."""
    return [tokenizer(text[: 40 * CUT]).input_ids[:CUT] for text in texts]  # no word is that long


def _halved(number: int, text: str, tokenizer: Any) -> Example:
    ids = tokenizer(text[: 40 * CUT], add_special_tokens=False).input_ids[:CUT]
    first, rest = (
        tokenizer.decode(part, skip_special_tokens=True) for part in (ids[: len(ids) // 2], ids[len(ids) // 2 :])
    )
    return Example(f"{number}", prompt=first, references=(rest,))


def _first_turns(task: Task) -> Task:
    """The first questions of a set of conversations: of each kind the shortest, the shortest of all first."""
    kinds: dict[str, list[Example]] = {}
    for example in sorted(task, key=lambda example: len(example.prompt)):
        kinds.setdefault(example.kind, []).append(example)
    each = max(PROMPTS // len(kinds), 1)
    kept = [replace(example, turns=()) for own in kinds.values() for example in own[:each]]
    return replace(task, examples=tuple(sorted(kept, key=lambda example: len(example.prompt))), max_new_tokens=NEW)


def _with_answers(task: Task, shown: int) -> Task:
    """Questions behind the last ones of the set with their answers, which show the form of one; those are left out."""
    form = "".join(f"{one.prompt} {one.answers[0]}\n\n" for one in task.examples[-shown:])
    return replace(task, examples=tuple(replace(one, prompt=form + one.prompt) for one in task.examples[:-shown]))


def _spread(examples: Sequence[Example], count: int) -> tuple[Example, ...]:
    """So many examples, evenly over the file."""
    return tuple(examples[:: max(len(examples) // count, 1)][:count])
