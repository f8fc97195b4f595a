"""Recipes: how a model is pruned or made to skip in one cell of a study, and on which calibration texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from transformers import PreTrainedModel

from .. import pruning
from ..calibration import Sample
from ..policies import FFNSkip, Policy, StaticFFN
from ..recording import record

DENSE = "dense"
SKIPPING = {
    "ffnskip": "the paper's rule, its threshold and cold layers fitted to the texts at a ratio",
    "static": "the blocks of highest mean similarity on the texts, as many as the ratio says",
}
METHODS = (*pruning.METHODS, *SKIPPING)


@dataclass(frozen=True)
class Recipe:
    """One way to make a model cheaper.

    Attributes
    ----------
    source
        Source of calibration texts, as for `calibration.open_source`; "dense" for the unchanged model.
    method
        One of `METHODS`; "" for the unchanged model.
    sparsity
        A share of the weights, neurons or blocks; or N:M.
    format, shots
        As for `calibration.draw`.
    seed, tokens
        Seed of the draw, and its budget.
    length
        Most tokens of a text; None as for `calibration.draw`.
    whole
        As for `calibration.draw`.
    """

    source: Any
    method: str = ""
    sparsity: float | str = 0.0
    format: str | None = None
    shots: int | None = None
    seed: int = 0
    tokens: int = 16_384
    length: int | None = None
    whole: bool = True

    @property
    def name(self) -> str:
        """Name of the source, for tables."""
        return str(getattr(self.source, "name", self.source))

    def texts(self) -> Recipe:
        """The part of the recipe that determines the texts."""
        return replace(self, method="", sparsity=0.0)

    def columns(self) -> dict[str, Any]:
        """The columns of a study's table."""
        shots = float("nan") if self.shots is None else self.shots
        return {
            "source": self.name,
            "format": self.format or "",
            "shots": shots,
            "method": self.method,
            "sparsity": str(self.sparsity),
            "seed": self.seed,
            "budget": self.tokens,
        }


def recipes(
    sources: Sequence[Any],
    *,
    methods: Sequence[str] = ("wanda", "sparsegpt"),
    sparsity: Sequence[float | str] = (0.5,),
    formats: Sequence[tuple[str | None, int | None]] = ((None, None),),
    seeds: Sequence[int] = (0, 1, 2),
    tokens: Sequence[int] = (16_384,),
    length: int | None = None,
    whole: bool = True,
) -> list[Recipe]:
    """Make a recipe for every combination, source by source, so that texts are drawn once for all methods.

    Parameters
    ----------
    sources
        As `calibration.open_source` takes them.
    methods, sparsity, seeds, tokens
        Several of each.
    formats
        Pairs of format and shots, such as ``("icl", 5)``; ``(None, None)`` is the default of each source.
    length, whole
        As for `calibration.draw`.

    Returns
    -------
    list of Recipe

    Raises
    ------
    ValueError
        For an unknown method.
    """
    if unknown := [method for method in methods if method not in METHODS]:
        raise ValueError(f"expected methods among {', '.join(METHODS)}, got {unknown[0]!r}; name some of these")
    return [
        Recipe(source, method, share, form, shots, seed, budget, length, whole)
        for source, (form, shots), seed, budget in product(sources, formats, seeds, tokens)
        for method, share in product(methods, sparsity)
    ]


def fitted(model: PreTrainedModel, tokenizer: Any, recipe: Recipe, sample: Sample, batch_size: int) -> Policy:
    """Fit the policy of a skipping method to calibration texts.

    Raises
    ------
    ValueError
        For N:M, and as the policies say.
    """
    if not isinstance(recipe.sparsity, int | float):
        raise ValueError(
            f"expected a share of the blocks for {recipe.method!r}, such as 0.25, got {recipe.sparsity!r}; "
            "give a number"
        )
    texts = [list(ids) for ids in sample.ids]
    trace = record(model, tokenizer, texts, batch_size=batch_size, progress=False)
    if recipe.method == "static":
        return StaticFFN.fit(trace, ratio=float(recipe.sparsity))
    return FFNSkip.fit(trace, ratio=float(recipe.sparsity), warmup=0)
