"""Removable blocks: those that a policy skips at every token."""

from __future__ import annotations

from ..policies import Policy, StaticFFN


def layers_of(policy: Policy | None) -> tuple[int, ...]:
    """Layers to leave out of a checkpoint; ValueError for a policy that no checkpoint can express."""
    if policy is None:
        return ()
    if not isinstance(policy, StaticFFN):
        raise ValueError(
            f"expected a policy that skips the same blocks at every token, got {policy.describe()!r}, which decides "
            "while the model runs; a checkpoint cannot: fit a StaticFFN (StaticFFN.fit) and measure that"
        )
    if policy.action is not None:
        raise ValueError(
            f"expected a policy that skips blocks, got one that runs something in their place "
            f"({policy.action.describe()}); a checkpoint of narrow blocks is made by "
            "saturation.prune(method='neurons') and exported without a policy"
        )
    if policy.sink or policy.decode_only:
        spared = f"the first {policy.sink} tokens of every text" if policy.sink else "prefill"
        raise ValueError(
            f"expected a policy that skips every token alike, got {policy.describe()!r}, which spares {spared}; a "
            f"checkpoint cannot: measure and export StaticFFN({policy.layers}, sink=0)"
        )
    return tuple(sorted(policy.layers))


def within(layers: tuple[int, ...], depth: int) -> None:
    """Raise ValueError for a layer number that a model of `depth` layers does not have."""
    if layers and layers[-1] >= depth:
        raise ValueError(f"expected layers of a model with {depth}, numbered from 0, got {layers[-1]}; leave it out")
