"""Scores for the bundled tasks: exact match after normalisation, ROUGE-L, Wilson and bootstrap intervals."""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

ARTICLES = {"a", "an", "the"}
NORMAL = 1.959964  # the standard normal's 97.5 % point: 95 % intervals


def normalise(text: str) -> str:
    """Case, punctuation, articles and spacing do not make an answer wrong (as SQuAD's script has it)."""
    bare = text.casefold().translate(str.maketrans("", "", string.punctuation))
    return " ".join(word for word in bare.split() if word not in ARTICLES)


def answer_in(new: str, line: dict) -> str:
    """The scored part of newly generated text: up to ``stop``, and what follows ``after`` where a line has that."""
    cut = new.split(line["stop"])[0] if line.get("stop") else new
    return cut.rpartition(line["after"])[2] if line.get("after") else cut


def correct(new: str, line: dict) -> bool:
    """Exact match of the new text (never of the prompt) with the answer or one of its aliases."""
    return normalise(answer_in(new, line)) in {normalise(answer) for answer in line["answers"]}


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson, JASA 22:209, 1927)."""
    share, spread = hits / n, NORMAL**2 / n
    centre = (share + spread / 2) / (1 + spread)
    half = NORMAL / (1 + spread) * (share * (1 - share) / n + spread / (4 * n)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def rouge_l(new: str, references: Sequence[str]) -> float:
    """F1 of the longest common subsequence of words with the best reference (Lin, ACL workshop 2004), unstemmed."""
    return max(_rouge_l(normalise(new).split(), normalise(reference).split()) for reference in references)


def _rouge_l(ours: list[str], theirs: list[str]) -> float:
    if not ours or not theirs:
        return 0.0
    longest = [0] * (len(theirs) + 1)  # [word of the reference + 1]: common subsequence so far
    for word in ours:
        diagonal = 0
        for j, other in enumerate(theirs, start=1):
            diagonal, longest[j] = longest[j], diagonal + 1 if word == other else max(longest[j], longest[j - 1])
    return 2 * longest[-1] / (len(ours) + len(theirs))


def bootstrap_mean(
    values: Sequence[float], weights: Sequence[float], *, seed: int = 0, draws: int = 1000
) -> tuple[float, float]:
    """95 % percentile interval of a weighted mean over texts (or any unit that is resampled whole)."""
    rng = np.random.default_rng(seed)
    value, weight = np.asarray(values, float), np.asarray(weights, float)
    rows = rng.integers(len(value), size=(draws, len(value)))  # [draw, text]
    means = (value * weight)[rows].sum(1) / weight[rows].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
