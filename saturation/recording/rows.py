"""The tokens of one forward pass, as a recording and a policy see them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..policies import Policy, Steps


@dataclass(frozen=True, eq=False)
class Rows:
    """The real tokens of one forward pass.

    Attributes
    ----------
    ids
        Token ids as the model got them, [batch, width]; None for embeddings.
    index
        Where the real tokens stand in the flattened [batch * width], [token]; None when all are real.
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
        """The tokens as a policy sees them, without their ids."""
        return Steps(self.sequence, self.position, self.generated)

    def steps_for(self, policy: Policy) -> Steps:
        """The tokens as a policy sees them, with their ids where it reads them."""
        return replace(self.steps, token_id=self.token_ids()) if policy.reads_tokens else self.steps

    def token_ids(self) -> np.ndarray:
        """Ids of the real tokens, [token]; -1 where the model was given embeddings."""
        if self.ids is None:
            return np.full(len(self), -1)
        flat = self.ids.reshape(-1).cpu().numpy()
        return flat if self.index is None else flat[self.index]

    def real(self, x: Tensor) -> np.ndarray:
        """The rows of x [..., hidden] that are no padding, float32 [token, hidden]."""
        flat = x.detach().reshape(-1, x.shape[-1])
        kept = flat if self.index is None else flat[torch.from_numpy(self.index).to(x.device)]
        return kept.float().cpu().numpy()

    def whole(self, x: Tensor) -> bool:
        """Whether x [..., hidden] is of all the tokens."""
        return x.numel() == self.read * x.shape[-1]

    def check(self, x: Tensor, layer: int) -> None:
        """Raise ValueError where a layer's x [..., hidden] is not of all the tokens."""
        if not self.whole(x):
            raise ValueError(
                f"expected every feed-forward block to read all {self.read} tokens of a pass at once, but that of "
                f"layer {layer} reads {x.numel() // x.shape[-1]}; if the model leaves out tokens whose logits are not "
                "asked for, ask for all (logits_to_keep=0, which generate takes too) or use saturation.record and "
                "saturation.generate; if it reads in chunks, load it with chunk_size_feed_forward=0"
            )


def not_run(layer: int) -> ValueError:
    """The error for a pass that left a decoder layer out."""
    return ValueError(
        f"expected every decoder layer to run in each pass, but layer {layer} did not; early exit "
        "(assistant_early_exit), LayerDrop and a num_hidden_layers that was changed leave layers out: run without "
        "them, or build the model with the layers that run"
    )
