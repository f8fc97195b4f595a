"""Hub presets for calibration texts (Bandari et al., EMNLP 2024), besides those in `hub_presets`.

They were written without access to the hub; the tests run them on local files of the same shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .hub_presets import EVALUATED, UNTESTED, HubSet
from .published import PUBLISHED, Fields, plain

_QA = PUBLISHED["freebaseqa"].template
_PAIR = "Premise: {premise}\nHypothesis: {hypothesis}\nAnswer:"
_RELATIONS = ("yes", "unknown", "no")  # entailment, neutral, contradiction, as both sets number them


def _related(rows: Iterator[Fields]) -> Iterator[Fields]:
    """Pairs with a label; e-SNLI marks pairs without agreement by -1."""
    for row in rows:
        if int(row["correct"]) in range(len(_RELATIONS)):
            yield {**row, "choices": _RELATIONS}


def _lettered(rows: Iterator[Fields]) -> Iterator[Fields]:
    """Find the right option by its letter."""
    for row in rows:
        yield {**row, "correct": "ABCD".index(row["letter"])}


def _blanks(rows: Iterator[Fields]) -> Iterator[Fields]:
    """Fill the blank with the right option; ValueError for a test split without answers."""
    for row in rows:
        if row["number"] not in ("1", "2"):
            raise ValueError(f"expected an answer 1 or 2, got {row['number']!r}; name a split with answers")
        yield {**row, "choices": (row["first"], row["second"]), "correct": int(row["number"]) - 1}


def _counted(rows: Iterator[Fields]) -> Iterator[Fields]:
    for row in rows:
        yield {**row, "answers": plain(str(row["answers"]))}


def _texts(name: str, config: str | None = None) -> HubSet:
    common: dict[str, Any] = {"split": "train", "streaming": True, "status": UNTESTED}
    return HubSet(name, "text", {"text": "text"}, config=config, **common)


CALIBRATED = {
    "pile": _texts("monology/pile-uncopyrighted"),
    "oscar": _texts("oscar-corpus/OSCAR-2301", "en"),
    "redpajama": _texts("togethercomputer/RedPajama-Data-1T-Sample"),
    "mawps": HubSet(
        "MU-NLPC/Calc-mawps",
        "number",
        {"id": "id", "question": "question", "answers": "result"},
        _QA,
        shape=_counted,
        stop="\n\n",
        max_new_tokens=128,
        status=UNTESTED,
    ),
    "e-snli": HubSet(
        "esnli/esnli",
        "choice",
        {"premise": "premise", "hypothesis": "hypothesis", "correct": "label", "reasoning": "explanation_1"},
        _PAIR,
        shape=_related,
        status=UNTESTED,
    ),
    "anli": HubSet(
        "facebook/anli",
        "choice",
        {"id": "uid", "premise": "premise", "hypothesis": "hypothesis", "correct": "label", "reasoning": "reason"},
        _PAIR,
        split="test_r1",
        shape=_related,
        status=UNTESTED,
    ),
    "race": HubSet(
        "ehovy/race",
        "choice",
        {"article": "article", "question": "question", "choices": "options", "letter": "answer"},
        "Article: {article}\nQuestion: {question}\nAnswer:",
        config="all",
        shape=_lettered,
        status=UNTESTED,
    ),
    "winogrande": HubSet(
        "allenai/winogrande",
        "choice",
        {"sentence": "sentence", "first": "option1", "second": "option2", "number": "answer"},
        "Sentence: {sentence}\nQuestion: What does _ stand for?\nAnswer:",
        config="winogrande_xl",
        split="validation",
        shape=_blanks,
        status=UNTESTED,
    ),
}
HUB: dict[str, HubSet] = {**EVALUATED, **CALIBRATED}
