"""Tuning evidence: the loss of every setting against its unread bytes, with the budget and the choice."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import policy_styles, style
from .metrics import share_axis
from .score_tables import RATIOS, Columns, printed
from .source import Source, sourced
from .tradeoff import front_steps, lines

_SEVERAL = 7  # kinds of policies, above which a legend would tell no more than the table
_LOSS = "loss per example"


def tuned(
    evidence: pd.DataFrame, *, setting: str = policy_styles.DENSE, budget: float | None = None, ax: Axes | None = None
) -> Figure:
    """Draw all settings of a choice, their Pareto front, and the chosen one.

    Parameters
    ----------
    evidence : pandas.DataFrame
        What `saturation.tune` gives: one row per setting, with `policy`, `unread`, `loss`, `low` and `high`.
    setting : str
        Name of the chosen one, which is circled; "dense" where none was.
    budget : float, optional
        The mean loss that may not be passed, drawn as a line.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For a table without rows or one of these columns, or a setting that is not in it.
    """
    columns = Columns("loss", "low", "high", "policy", "unread")
    columns.check(evidence)
    if setting != policy_styles.DENSE and setting not in set(evidence["policy"]):
        raise ValueError(
            f"expected the chosen setting among {', '.join(map(repr, evidence['policy']))}, got {setting!r}; give what "
            "was tuned on this table"
        )
    if ax is None:
        ax = style.new()[1][0]
    names = evidence["policy"].astype(str).map(policy_styles.series)
    if names.nunique() > _SEVERAL:
        names[:] = "settings"
    keys = lines(ax, evidence, names, columns)
    dense = pd.DataFrame([{"policy": policy_styles.DENSE, "unread": 0.0, "loss": 0.0}])  # loses nothing against itself
    keys += front_steps(ax, pd.concat([dense, evidence]), columns, less_is_better=True)
    if budget is not None:
        keys.append(ax.axhline(budget, label="budget", color="#606060", linewidth=0.8, linestyle=(0, (2, 2)), zorder=1))
    here = evidence[evidence["policy"] == setting]
    x, y = (here[["unread", "loss"]].iloc[0] if len(here) else np.zeros(2)).tolist()
    label = "chosen" if len(here) else "chosen: dense"
    keys += ax.plot(x, y, "o", label=label, markersize=9, fillstyle="none", color="black", clip_on=False)
    share_axis(ax.xaxis)
    widest = float(evidence["unread"].max()) or 1.0
    ax.set_xlim(-0.03 * widest, 1.05 * widest)
    ax.set_xlabel(RATIOS["unread"])
    ax.set_ylabel(_LOSS)
    style.grid(ax)
    style.legend(ax, keys)
    about = {"setting": setting, "budget": budget}
    table = printed(evidence, columns, _LOSS, "policy", unread="unread")
    return sourced(style.figure_of(ax), Source("tuned", evidence, about, table))
