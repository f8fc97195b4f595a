"""Losses of independent examples from the rows of a sweep, and the share of bytes that each setting leaves unread."""

from __future__ import annotations

import numpy as np
import pandas as pd

DENSE = "dense"


def units(rows: pd.DataFrame) -> pd.Series:
    """Names of the independent units: examples, or the conversations of turns."""
    example = rows["example"].astype(str)
    if "conversation" in rows:
        example = rows["conversation"].astype("object").where(rows["conversation"].notna(), example).astype(str)
    elif "turn" in rows:
        example = example.where(rows["turn"].isna(), example.str.rsplit("/", n=1).str[0])
    return rows["task"].astype(str) + "/" + example if "task" in rows else example


def losses(rows: pd.DataFrame, loss: str | None) -> tuple[pd.DataFrame, pd.Series]:
    """Losses in [0, 1] by example and setting, float [example, policy], and the `units` of the rows.

    Each row is compared with the dense row of the same example and turn before averaging, so that a gain of one seed or
    turn cannot offset a loss of another.
    """
    wanted = loss or "correct"
    if missing := [name for name in ("policy", "example", wanted) if name not in rows]:
        raise ValueError(f"expected rows with a column {missing[0]!r}, got {', '.join(rows)}; run them with sweep")
    values = rows[wanted].to_numpy(dtype=float)
    if (wrong := ~((values >= 0) & (values <= 1))).any():
        raise ValueError(f"expected losses in [0, 1] in the column {wanted!r}, got {values[wrong][0]}; scale them")
    policy, names = pd.factorize(rows["policy"])
    example = rows.groupby(["task", "example"] if "task" in rows else ["example"], sort=False).ngroup().to_numpy()
    met = np.zeros((int(example.max(initial=-1)) + 1, len(names)), dtype=bool)  # [example, policy]
    met[example, policy] = True
    if not met.all() or not len(met) or (loss is None and DENSE not in names):
        raise ValueError(
            f"expected every setting on the same examples, {DENSE!r} among them, got "
            f"{', '.join(f'{name} on {count}' for name, count in zip(names, met.sum(0), strict=True))}; sweep them "
            "together"
        )
    if loss is None:
        dense = policy == list(names).index(DENSE)
        values = (_means(example[dense], values[dense], len(met))[example] - values).clip(min=0)
    named = units(rows)
    unit, told = pd.factorize(named)
    means = _means(unit * len(names) + policy, values, len(told) * len(names))
    return pd.DataFrame(means.reshape(len(told), len(names)), index=told, columns=names), named


def shares(rows: pd.DataFrame) -> pd.DataFrame:
    """Shares by setting: `skipped` of the FFN blocks, and `unread` of their bytes (equal where bytes are missing)."""
    pairs = {"skipped": ("skipped", "blocks"), "unread": BYTES if has_bytes(rows) else ("skipped", "blocks")}
    sums = rows.groupby("policy")[list(dict.fromkeys(name for pair in pairs.values() for name in pair))].sum()
    return pd.DataFrame({name: sums[part] / sums[whole].clip(lower=1) for name, (part, whole) in pairs.items()})


BYTES = ("unread_bytes", "ffn_bytes")


def has_bytes(rows: pd.DataFrame) -> bool:
    """Whether the rows say how many bytes were left unread."""
    return all(name in rows and rows[name].notna().all() for name in BYTES)


def held_out(rows: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split rows into those to choose on, and those of a random share of the examples to confirm on."""
    names = units(rows)
    drawn = np.random.default_rng([seed, 1]).permutation(names.unique())
    held = names.isin(drawn[: kept_back(len(drawn), share)])
    return rows[~held], rows[held]


def kept_back(examples: int, share: float) -> int:
    """Number of examples to confirm on; ValueError for a share that leaves none on one side."""
    count = round(share * examples)
    if not 0 < share < 1 or not 0 < count < examples:
        raise ValueError(
            f"expected a share of the examples to confirm on, between 0 and 1, that leaves some of {examples} on "
            f"either side, got {share}; 0.25 keeps a quarter"
        )
    return count


def other(confirm: pd.DataFrame, chosen_on: pd.Index, loss: str | None) -> pd.DataFrame:
    """Losses of the rows to confirm on; ValueError for examples that the choice is made on."""
    found, _ = losses(confirm, loss)
    if both := int(found.index.isin(chosen_on).sum()):
        raise ValueError(
            f"expected rows of other examples to confirm on, got {len(found)}, {both} of which the choice is made on; "
            "give examples held out, or confirm= as a share of these, such as 0.25"
        )
    return found


def _means(place: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Mean of the values at each place, [place]."""
    return np.bincount(place, values, count) / np.bincount(place, minlength=count).clip(min=1)
