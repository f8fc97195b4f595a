"""The calibration study: sources x formats x methods x seeds, pruned or skipping, scored on tasks."""

from .cell_recipes import METHODS, SKIPPING, Recipe, recipes
from .comparing import overlaps, ranking, rises
from .findings import contrast, findings
from .studying import masks, study

__all__ = [
    "METHODS",
    "SKIPPING",
    "Recipe",
    "contrast",
    "findings",
    "masks",
    "overlaps",
    "ranking",
    "recipes",
    "rises",
    "study",
]
