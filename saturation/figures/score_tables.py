"""Score tables, checked and prepared for drawing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

SCORES = {  # score -> label of its axis
    "correct": "accuracy",
    "correct_norm": "accuracy (per character)",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_L": "ROUGE-L",
    "chrf": "chrF",
    "nll": "loss (nats per token)",
    "loss": "rise of loss (nats per token)",
    "judge": "judge's rating",
    "wrong": "wrong answers",
    "collapsed": "collapsed texts",
    "repetition": "repeated 4-grams",
    "distinct_1": "different tokens",
    "distinct_2": "different pairs of tokens",
    "agreement": "tokens as in the dense run",
    "kl": "KL from the dense run (nats)",
    "dense_nll": "loss under the dense model (nats per token)",
}
LESS_IS_BETTER = frozenset({"nll", "loss", "wrong", "collapsed", "repetition", "kl", "dense_nll"})
RATIOS = {
    "decode": "FFN blocks skipped (of all at decoded tokens)",
    "ratio": "FFN blocks skipped (of all at decoded tokens)",
    "answer": "FFN blocks skipped (of those at the answer's tokens)",
    "unread": "FFN bytes left unread (of all at decoded tokens)",
}


@dataclass(frozen=True)
class Columns:
    """Names of the columns that a figure of scores draws: value, interval, grouping and x."""

    y: str
    low: str
    high: str
    by: str
    x: str | None = None
    x_option: str = "x"  # of the figure, that names the column x

    def check(self, table: pd.DataFrame) -> None:
        """Raise ValueError for a table without rows, or without one of these columns."""
        named = {self.x_option: self.x, "y": self.y, "low": self.low, "high": self.high, "by": self.by}
        asked = {option: name for option, name in named.items() if name is not None}
        if missing := [name for name in asked.values() if name not in table.columns]:
            options = [f"{option}=" for option in asked]
            raise ValueError(
                f"expected a table with the columns {', '.join(asked.values())}, found no {missing[0]!r} among "
                f"{', '.join(map(str, table.columns))}; name yours with {', '.join(options[:-1])} and {options[-1]}"
            )
        if not len(table):
            raise ValueError("nothing to draw: the table has no rows")


def chosen(table: pd.DataFrame, score: str | None, task: str | None) -> tuple[pd.DataFrame, str | None]:
    """The rows of one score and one task of a summary, and the score's name; another table stays as it is."""
    rows = _only(table, "score", score)
    rows = _only(rows, "task", task)
    return rows, str(rows["score"].iloc[0]) if "score" in rows and len(rows) else score


def _only(table: pd.DataFrame, column: str, wanted: str | None) -> pd.DataFrame:
    if column not in table.columns:
        return table
    there = list(dict.fromkeys(table[column]))
    if wanted is None and len(there) < 2:
        return table
    if wanted not in there:
        raise ValueError(
            f"expected one {column} to draw, got {wanted!r} of {', '.join(map(repr, there))}; choose with {column}="
        )
    return table[table[column] == wanted]


def spread(rows: pd.DataFrame, columns: Columns) -> np.ndarray:
    """Lengths of the bars below and above each value, [2, row]."""
    ends = rows[[columns.low, columns.high]].to_numpy(dtype=float).T  # [2, row]
    return np.abs(ends - rows[columns.y].to_numpy(dtype=float))


def printed(rows: pd.DataFrame, columns: Columns, score: str | None, *first: str, **shares: str) -> pd.DataFrame:
    """A table for a paper: the first columns as they are, shares in percent, the score with its interval, n.

    All values of a column have the same number of decimals.
    """
    found: dict[str, Any] = {name: rows[name].astype(str) for name in first if name in rows}
    found |= {
        name: [f"{100 * share:.1f} %" for share in rows[column]] for column, name in shares.items() if column in rows
    }
    values = rows[[columns.y, columns.low, columns.high]].to_numpy(dtype=float)  # [row, (value, low, high)]
    digits = _digits(values)
    name = SCORES.get(score or columns.y, score or columns.y)
    found[name] = [
        f"{value:.{digits}f}{'' if low != low else f' [{low:.{digits}f}, {high:.{digits}f}]'}".replace("-", "−")
        for value, low, high in values
    ]
    if "n" in rows:
        found["n"] = ["" if count != count else f"{count:.0f}" for count in rows["n"]]
    return pd.DataFrame(found)


def _digits(values: np.ndarray) -> int:
    """Decimals of a column: two digits for its narrowest interval, or four for its largest value."""
    widths = values[:, 2] - values[:, 1]
    widths = widths[widths > 1e-9]  # not those of rounding alone
    largest = np.nanmax(np.abs(values))
    if not len(widths) and not largest > 0:
        return 0
    scale = 1 - np.log10(widths.min()) if len(widths) else 3 - np.log10(largest)
    return int(np.clip(np.ceil(scale), 0, 9))
