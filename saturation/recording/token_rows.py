"""The tokens of one forward pass, as recordings and policies use them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..policies import Policy, Steps

_READ: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # ids on a device -> their copy on the host


@dataclass(frozen=True, eq=False)
class Rows:
    """The real tokens of one forward pass.

    Attributes
    ----------
    ids
        Token ids given to the model, [batch, width]; None for embeddings.
    index
        Indices of the real tokens in the flattened [batch * width], [token]; None when all are real.
    sequence, position
        Number of the sequence, and of the token inside it without padding, [token].
    generated
        n >= 1 where this pass consumes generated token number n, 0 in prefill, [token].
    stepped
        True for a decode step of one token per sequence, False for a pass over given text.
    read
        Tokens of the pass, padding included: batch * width.
    """

    ids: Tensor | None
    index: np.ndarray | None
    sequence: np.ndarray
    position: np.ndarray
    generated: np.ndarray
    stepped: bool
    read: int

    def __len__(self) -> int:
        return len(self.sequence)

    @property
    def steps(self) -> Steps:
        """The tokens for a policy, without their ids."""
        return Steps(self.sequence, self.position, self.generated)

    def steps_for(self, policy: Policy) -> Steps:
        """The tokens for a policy, with their ids where it reads them."""
        return replace(self.steps, token_id=self.token_ids()) if policy.reads_tokens else self.steps

    def token_ids(self) -> np.ndarray:
        """Ids of the real tokens, [token]; -1 where the model was given embeddings."""
        return token_ids([self])[0]

    def real(self, x: Tensor) -> np.ndarray:
        """The rows of x [..., hidden] without padding, float32 [token, hidden]."""
        flat = x.detach().reshape(-1, x.shape[-1])
        return (flat if self.index is None else flat[self.index_on(x.device)]).float().cpu().numpy()

    def index_on(self, device: torch.device) -> Tensor:
        """`index`, which must not be None, on a device; copied to each device once."""
        if device not in self._copied:
            self._copied[device] = torch.from_numpy(self.index).to(device)
        return self._copied[device]

    @cached_property
    def _copied(self) -> dict[torch.device, Tensor]:
        return {}

    def whole(self, x: Tensor) -> bool:
        """Whether x [..., hidden] holds all the tokens."""
        return x.numel() == self.read * x.shape[-1]

    def check(self, x: Tensor, layer: int) -> None:
        """Raise ValueError where a layer's x [..., hidden] does not hold all the tokens."""
        if not self.whole(x):
            raise ValueError(
                f"expected every feed-forward block to read all {self.read} tokens of a pass at once, but that of "
                f"layer {layer} reads {x.numel() // x.shape[-1]}; if the model leaves out tokens whose logits are not "
                "asked for, ask for all (logits_to_keep=0, which generate takes too) or use saturation.record and "
                "saturation.generate; if it reads in chunks, load it with chunk_size_feed_forward=0"
            )


def known(ids: Tensor, host: Tensor) -> Tensor:
    """Remember the host copy of ids on a device, so that they are not copied again; returns the ids."""
    if ids.device.type != "cpu":
        _READ[ids] = host
    return ids


def token_ids(passes: Sequence[Rows]) -> list[np.ndarray]:
    """Ids of the real tokens of several passes, [token] each; those on a device are copied to the host at once."""
    hosts = [_on_host(rows.ids) for rows in passes]
    far = [rows.ids for rows, host in zip(passes, hosts, strict=True) if host is None and rows.ids is not None]
    brought: Iterator[Tensor] = iter(())
    if far:
        joined = torch.cat([ids.reshape(-1).to(far[0].device) for ids in far]).cpu()
        brought = iter(joined.split([ids.numel() for ids in far]))
    found = []
    for rows, host in zip(passes, hosts, strict=True):
        if rows.ids is None:
            found.append(np.full(len(rows), -1))
        else:
            flat = (next(brought) if host is None else host).reshape(-1).numpy()
            found.append(flat if rows.index is None else flat[rows.index])
    return found


def _on_host(ids: Tensor | None) -> Tensor | None:
    """Ids that are on the host already, or None."""
    return ids if ids is None or ids.device.type == "cpu" else _READ.get(ids)


def not_run(layer: int) -> ValueError:
    """The error for a pass that left a decoder layer out."""
    return ValueError(
        f"expected every decoder layer to run in each pass, but layer {layer} did not; early exit "
        "(assistant_early_exit), LayerDrop and a num_hidden_layers that was changed leave layers out: run without "
        "them, or build the model with the layers that run"
    )
