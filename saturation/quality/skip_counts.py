"""Skip counts per text: the sums behind every skip ratio."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..skipping import Ledger

COUNTS = ("skipped", "skippable", "blocks", "all_skipped", "all_blocks", "unread_bytes", "ffn_bytes")
RATIOS = {
    "nominal": ("skipped", "skippable"),
    "decode": ("skipped", "blocks"),
    "total": ("all_skipped", "all_blocks"),
    "answer": ("answer_skipped", "answer_blocks"),
    "unread": ("unread_bytes", "ffn_bytes"),
}  # ratio -> its columns; the first three as `policies.SkipRatios` defines them, the last as `Ledger.unread`


def counted(ledger: Ledger | None, texts: int, *, until: np.ndarray | None = None) -> pd.DataFrame:
    """Count the skipped and skippable blocks of each text.

    Parameters
    ----------
    ledger
        Ledger of the run; None for a dense run, which counts 0.
    texts
        Number of texts in the run.
    until
        [text]: decode steps from this generated token on do not count, such as those that a finished text still runs
        in its batch.

    Returns
    -------
    DataFrame
        One row per text. Of decode tokens `skipped`, of `skippable` (layers that the policy may skip x tokens past
        its warm-up) and of `blocks` (all layers); of all tokens, prefill included, `all_skipped` of `all_blocks`;
        and of decode tokens `unread_bytes` of `ffn_bytes`, each token reading the blocks for itself.
    """
    if ledger is None:
        return pd.DataFrame(0, index=range(texts), columns=COUNTS)
    steps, layers = ledger.steps, ledger.skipped.shape[1]
    kept = np.ones(len(ledger.skipped), dtype=bool) if until is None else steps.generated < until[steps.sequence]
    kept |= ~steps.decode
    decode = kept & steps.decode
    per_token = ledger.skipped.sum(axis=1)  # [token]
    whole, instead = ledger.bytes  # [layer] each

    def summed(chosen: np.ndarray, each: np.ndarray | float) -> np.ndarray:
        weights = np.broadcast_to(each, chosen.shape)[chosen]
        return np.bincount(steps.sequence[chosen], weights=weights, minlength=texts).astype(np.int64)  # [text]

    open_ = decode & ledger.policy.eligible(steps)
    values = (
        summed(decode, per_token),
        summed(open_, len(ledger.policy.skippable(layers))),
        summed(decode, layers),
        summed(kept, per_token),
        summed(kept, layers),
        summed(decode, ledger.skipped @ (whole - instead)),
        summed(decode, whole.sum()),
    )
    return pd.DataFrame(dict(zip(COUNTS, values, strict=True)))
