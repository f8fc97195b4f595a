"""Settings of pruning, and their checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..anatomy import Matrix
from .masks import Pattern

METHODS = {
    "magnitude": "the smallest weights go",
    "wanda": "the smallest products of weight and input go (Sun et al., arXiv 2306.11695)",
    "sparsegpt": "those go whose loss the others can make up for best (Frantar and Alistarh, arXiv 2301.00774)",
    "neurons": "whole neurons of the feed-forward blocks go, so that the matrices get smaller",
}
UPDATES = {
    "none": "what stays is as it was",
    "sparsegpt": "columns behind a pruned one make up for its error",
    "least-squares": "the best weights for the mask, row by row",
}
GROUPS = ("matrix", "row")
_OWN_UPDATE = {"sparsegpt": "sparsegpt"}
_OWN_GROUP = {"magnitude": "matrix", "wanda": "row", "sparsegpt": "columns"}


@dataclass(frozen=True)
class Settings:
    """How weights are chosen, and how those that stay are updated."""

    method: str
    pattern: Pattern
    update: str
    group: str
    damping: float
    columns: int

    @classmethod
    def read(
        cls,
        method: str,
        sparsity: float | str,
        update: str | None,
        group: str | None,
        damping: float,
        columns: int,
        calibrated: bool,
    ) -> Settings:
        """Check the settings; ValueError for invalid ones."""
        pattern = Pattern.read(sparsity)
        update = update or _OWN_UPDATE.get(method, "none")
        if update not in UPDATES:
            raise ValueError(f"expected an update among {', '.join(UPDATES)}, got {update!r}; choose one")
        if group is not None and (method == "sparsegpt" or pattern.of):
            why = f"compares within blocks of {columns} columns" if method == "sparsegpt" else "compares N of every M"
            raise ValueError(
                f"expected no group= with {method!r} at {pattern}, which {why}, got {group!r}; leave it out"
            )
        if group is not None and group not in GROUPS:
            raise ValueError(f"expected a group among {', '.join(GROUPS)}, got {group!r}; choose one")
        if not calibrated and (method != "magnitude" or update != "none"):
            what = repr(method) if method != "magnitude" else f"update={update!r}"
            raise ValueError(
                f"expected calibration texts for {what}, got none; draw some with saturation.calibration.draw, or "
                "prune by magnitude"
            )
        if not damping >= 0 or columns < 1:
            raise ValueError(f"expected damping >= 0 and columns >= 1, got {damping} and {columns}; correct them")
        return cls(method, pattern, update, group or _OWN_GROUP[method], damping, columns)

    def check(self, matrices: list[list[Matrix]]) -> None:
        """Raise ValueError for the first matrix that cannot be pruned with these settings."""
        m = self.pattern.of
        for matrix in (matrix for layer in matrices for matrix in layer):
            inputs = matrix.weight.shape[1]
            if m and inputs % m:
                raise ValueError(
                    f"expected matrices whose inputs can be parted into groups of {m}, but {matrix.name} in layer "
                    f"{matrix.layer} has {inputs}; choose another N:M, or a share"
                )

    def about(self) -> dict[str, Any]:
        """The settings in the form that a report stores."""
        return {
            "method": self.method,
            "sparsity": str(self.pattern),
            "update": self.update,
            "group": self.group,
            "damping": self.damping,
            "columns": self.columns,
        }
