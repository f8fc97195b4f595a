"""The three skip ratios: nominal, decode and total."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .policy import Policy, Steps


class SkipRatios(NamedTuple):
    """Share of feed-forward blocks skipped, with three denominators.

    Attributes
    ----------
    nominal
        Share of the blocks that the policy may skip: skippable layers x decoded tokens past the warm-up and the sink.
    decode
        Share of the blocks of all layers at decoded tokens; the sink counts where given text is read as decoded.
    total
        Share of the blocks of all layers at all tokens, prefill and the sink included.
    """

    nominal: float
    decode: float
    total: float


def skip_ratios(skipped: np.ndarray, steps: Steps, policy: Policy, layers: int) -> SkipRatios:
    """Compute the three ratios of a run or a replay.

    Parameters
    ----------
    skipped
        The skip mask, bool [token, layer].
    steps
        The tokens of the mask.
    policy
        Says which layers and tokens may be skipped.
    layers
        Number of layers of the model.

    Returns
    -------
    SkipRatios
        Each 0 where there is nothing to count.
    """
    by_token = skipped.sum(axis=1)  # [token]
    return ratios_of(float(by_token[steps.decode].sum()), float(by_token.sum()), steps, policy, layers)


def ratios_of(decoded: float, all_tokens: float, steps: Steps, policy: Policy, layers: int) -> SkipRatios:
    """The ratios from the number of blocks skipped at decoded tokens, and at all tokens."""
    decode = steps.decode
    open_blocks = len(policy.skippable(layers)) * int((policy.eligible(steps) & decode).sum())
    return SkipRatios(
        nominal=decoded / max(open_blocks, 1),
        decode=decoded / max(layers * int(decode.sum()), 1),
        total=all_tokens / max(layers * len(decode), 1),
    )
