"""Matching of new text with the references of an example."""

from __future__ import annotations

import string
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ..tasks import Example, number

_ARTICLES = {"a", "an", "the"}
_BARE = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Text without case, punctuation, English articles and surplus spaces, as SQuAD's script compares it.

    Rajpurkar et al., EMNLP 2016.
    """
    return " ".join(word for word in text.casefold().translate(_BARE).split() if word not in _ARTICLES)


def exact(new: str, example: Example) -> dict[str, Any]:
    """Exact match: whether the normalised answer is one of the right answers."""
    said = example.scored_part(new)
    return {"answer": said, "correct": any(_same(said, answer) for answer in example.answers)}


def _same(said: str, answer: str) -> bool:
    """Whether two normalised texts are equal; answers that normalise to nothing ("The", "!") are compared unchanged."""
    right = normalise(answer)
    return normalise(said) == right if right else said.strip().casefold() == answer.strip().casefold()


def numeric(new: str, example: Example) -> dict[str, Any]:
    """Numeric match: whether the last number of the answer is right; "18", "$18" and "18.0" are equal."""
    said = number(example.scored_part(new))
    right = said is not None and said in {number(answer) for answer in example.answers}
    return {"answer": "" if said is None else f"{said:f}", "correct": right}


def overlap(new: str, example: Example) -> dict[str, Any]:
    """ROUGE-1, -2 and -L (F1, best reference, unstemmed, in [0, 1]) and chrF (in [0, 100])."""
    said = example.scored_part(new)
    rouge, chrf = _scorers()
    best = rouge.score_multi(list(example.references), said)
    scores = {name.replace("rouge", "rouge_"): found.fmeasure for name, found in best.items()}
    return {"answer": said, **scores, "chrf": chrf.sentence_score(said, list(example.references)).score}


def spoken(new: str, example: Example) -> dict[str, Any]:
    """Score a turn of a conversation: the text, and its overlap with the reference reply, if any."""
    return overlap(new, example) if example.references else {"answer": example.scored_part(new)}


MATCHING: dict[str, Callable[[str, Example], dict[str, Any]]] = {
    "answer": exact,
    "number": numeric,
    "summary": overlap,
    "conversation": spoken,
}  # score of a task -> columns


@lru_cache(maxsize=1)
def _scorers() -> tuple[Any, Any]:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import CHRF

    return RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False), CHRF()
