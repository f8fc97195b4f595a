"""Fitting of stand-ins for a whole block on texts: its mean, a multiple of the stream, or a linear map."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..anatomy import Block, collapsed, find_blocks, first, input_device, running
from ..patching import Scope, exclusive, patched
from ..policies import SINK, Arrays, LowRank, Scale
from ..progress import bar
from ..recording import Text, called, padded
from ..skipping import refuse_parallel, unit
from .inputs import opened, unheld
from .layerwise import few_logits
from .moments import finest

_LOG = logging.getLogger(__name__)
_AT_ONCE = 2e9  # bytes of products that are summed in one pass over the texts
_FLAT = 1e-10  # share of the largest variance below which a direction of the stream has none
MEAN, SCALE, MAP = "mean", "scale", "map"


def stand_in(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: Sequence[Text],
    *,
    by: str = MAP,
    rank: int = 64,
    ridge: float = 0.0,
    sink: int = SINK,
    batch_size: int = 8,
    progress: bool = True,
) -> LowRank | Scale:
    """Fit stand-ins for the feed-forward blocks; the model stays as it is.

    Give the result to a policy as its `action`: ``StaticFFN((3, 4), action=st.stand_in(...))``. The fit needs only the
    input and output of a block, so it works for experts and quantised weights too. A smaller rank needs no new
    measurement: ``dataclasses.replace(action, rank=16)``.

    Parameters
    ----------
    model, tokenizer
        As `load` gives them.
    texts, sink, batch_size, progress
        As for `narrow`.
    by
        "mean": the block's mean output. "scale": the residual stream times the mean of |h + FFN| / |h|, as
        AdaSkip has it (arXiv 2501.02336). "map": a linear map of the scaled stream, by least squares.
    rank
        Rank of the map; a rank of the hidden size or more gives the full map.
    ridge
        Penalty on the entries of the map, as a share of the mean variance over the stream's directions.

    Returns
    -------
    LowRank or Scale
        The map of the given rank with the least squared error of what the blocks give on these texts (reduced-rank
        regression, Izenman, J. Multivariate Analysis 5:248, 1975).

    Raises
    ------
    ValueError
        For an unknown stand-in, or an invalid rank, ridge or texts; and for "scale" in a model whose attention and FFN
        are parallel.
    UnsupportedModel
        Where the model's feed-forward blocks cannot be found.
    """
    if by not in (MEAN, SCALE, MAP):
        raise ValueError(f"expected by= among {MEAN}, {SCALE} and {MAP}, got {by!r}; choose one")
    if not isinstance(rank, Integral) or rank < 1 or not ridge >= 0:
        raise ValueError(
            f"expected a rank that is a whole number from 1, and a ridge from 0, got {rank!r} and {ridge!r}; by='mean' "
            "is a map of rank 0"
        )
    blocks, scope = find_blocks(model), Scope()
    model, _ = running(model)
    unheld(model, "measure on the dense model")
    for block in blocks if by == SCALE else ():
        refuse_parallel(model, block)
    rows = opened(model, texts, tokenizer, batch_size)
    if max(map(len, rows)) <= sink:
        raise ValueError(f"expected texts of more than {sink} tokens, the attention sink, got none; give longer ones")
    hidden = model.config.get_text_config().hidden_size
    together = max(1, int(_AT_ONCE / (16 * hidden**2))) if by == MAP else len(blocks)
    arrays: dict[str, Any] = {}
    with exclusive(model, scope), scope.entered(), torch.no_grad():
        for begin in range(0, len(blocks), together):
            found = [Sums(block, by, sink) for block in blocks[begin : begin + together]]
            _read(model, found, rows, scope, batch_size, progress)
            for one in found:
                arrays |= one.arrays(rank, ridge)
    if by == SCALE:
        return Scale(Arrays(arrays), called(model))
    if by == MAP and found[0].tokens < hidden:
        _LOG.warning(
            "a map was fitted on %d tokens, fewer than the %d numbers of the stream: on these it is as good as the "
            "block, on others it need not be; give more text, or a ridge",
            found[0].tokens,
            hidden,
        )
    return LowRank(min(rank, hidden) if by == MAP else 0, Arrays(arrays), called(model))


@dataclass(eq=False)
class Sums:
    """Sums over real tokens of the input and output of one block.

    Attributes
    ----------
    block
        The block.
    by
        The kind of stand-in.
    sink
        Tokens at the start of each text that do not count.
    tokens
        How many.
    total
        Sums by name, of u (the input at a root mean square of 1) and f (the output): "f" and "u" [hidden], "uu" and
        "fu" [hidden, hidden]; for the stream "scale", a number.
    """

    block: Block
    by: str
    sink: int
    tokens: int = 0
    total: dict[str, Tensor] = field(default_factory=dict)
    real: Tensor = field(default_factory=lambda: torch.empty(0))  # bool [batch, width] of the current pass

    def ran(self, x: Tensor, *extra: Any, run: Callable[..., Any], **named: Any) -> Any:
        """Run the block, and add its input and output to the sums."""
        output = run(x, *extra, **named)
        if len(self.real):
            h, f = self._precise(x), self._precise(first(output))
            self._add(h, f - h if self.block.adds_residual else f)
        return output

    def _precise(self, x: Tensor) -> Tensor:
        """The real tokens past the sink, [token, hidden], in the device's highest precision."""
        kept = x.reshape(-1, x.shape[-1])[self.real.flatten().to(x.device)]
        return kept.to(finest(x.device))

    def _add(self, h: Tensor, f: Tensor) -> None:
        self.tokens += len(h)
        if self.by == SCALE:
            grown = torch.linalg.vector_norm(h + self.block.multiplier * f, dim=-1)
            self._sum("scale", (grown / torch.linalg.vector_norm(h, dim=-1)).sum())
        else:
            self._sum("f", f.sum(0))
        if self.by == MAP:
            u = unit(h)
            self._sum("u", u.sum(0))
            self._sum("uu", u.T @ u)
            self._sum("fu", f.T @ u)

    def _sum(self, name: str, value: Tensor) -> None:
        self.total[name] = self.total[name] + value if name in self.total else value

    def arrays(self, rank: int, ridge: float) -> dict[str, Any]:
        """The arrays of an action for this layer."""
        mean = {name: total / self.tokens for name, total in self.total.items()}
        layer = self.block.index
        if self.by == SCALE:
            return {f"scale {layer}": _plain(mean["scale"].reshape(1))}
        found = {f"mean {layer}": _plain(mean["f"])}
        if self.by == MAP:
            spread = mean["uu"] - torch.outer(mean["u"], mean["u"])  # [hidden, hidden]
            left, right = reduced(spread, mean["fu"] - torch.outer(mean["f"], mean["u"]), rank, ridge)
            found |= {f"centre {layer}": _plain(mean["u"]), f"left {layer}": _plain(left)}
            found[f"right {layer}"] = _plain(right)
        return found


def reduced(spread: Tensor, cross: Tensor, rank: int, ridge: float) -> tuple[Tensor, Tensor]:
    """The map of low rank with the least squared error: left [out, rank] and right [rank, in], the best first.

    Parameters
    ----------
    spread, cross
        Covariance of the input, [in, in], and of output and input, [out, in].
    rank, ridge
        As for `stand_in`.
    """
    values, axes = torch.linalg.eigh(spread)
    known = values > _FLAT * values.max()
    axes, values = axes[:, known], values[known] + ridge * values.clamp(min=0).mean()
    whole = cross @ axes / values.sqrt()  # [out, direction]: the map for whitened streams
    worth, out = torch.linalg.eigh(whole @ whole.T)
    left = out[:, worth.argsort(descending=True)[:rank]]
    return left, left.T @ (cross @ axes / values) @ axes.T


def _plain(tensor: Tensor) -> Any:
    return tensor.float().cpu().numpy()


def _read(
    model: PreTrainedModel, found: Sequence[Sums], rows: Sequence[list[int]], scope: Scope, size: int, progress: bool
) -> None:
    """Read the texts once, and sum inputs and outputs of some blocks."""
    each = (collapsed(one.block, one.ran, scope) for one in found)
    forwards = {module: forward for own in each for module, forward in own.items()}
    order = sorted(rows, key=len)
    starts = range(0, len(order), size)
    with patched(forwards):
        for begin in bar(starts, desc="fitting", unit="batch", progress=progress):
            ids, mask = padded(order[begin : begin + size], "right", input_device(model))
            real = mask.bool()
            real[:, : found[0].sink] = False  # padding is on the right
            for one in found:
                one.real = real
            model(input_ids=ids, attention_mask=mask, use_cache=False, **few_logits(model))
