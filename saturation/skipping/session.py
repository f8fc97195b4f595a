"""A policy at work inside a model: each feed-forward block asks it, token by token, whether to run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..anatomy import Block, collapsed, find_blocks, first
from ..patching import Hooks, Scope, alone, ensured, patched
from ..policies import Policy, previous_token
from ..recording import Recorder, Rows, Stream, by_name, listeners
from ..similarity import distance_and_growth, sums
from .ledger import Ledger

_LOG = logging.getLogger(__name__)
_SKIPPED: WeakKeyDictionary[PreTrainedModel, _Session] = WeakKeyDictionary()  # by whom


@contextmanager
def skip(model: PreTrainedModel, policy: Policy, *, start: int | Sequence[int] | None = None) -> Iterator[Ledger]:
    """Skip feed-forward blocks of a model in every forward pass that the block runs.

    Works around anything that calls the model: transformers' `generate` (greedy, sampling, beams, padded
    batches), a pipeline, or a bare forward over given text. A skipped FFN does not run, nor its norm; attention
    always runs. Only the context that entered is affected, and at the end the model is as it was. Where another
    thread skips or watches in the same model, such as a widget's, this one waits for its turn.

    Parameters
    ----------
    model
        A causal language model of transformers, in eval mode.
    policy
        Which blocks to skip, such as `FFNSkip`.
    start
        Position from which given text counts as decode (one, or one per sequence), so that policies which leave
        prefill alone act on teacher-forced text. None: only steps on a filled KV cache are decode.

    Yields
    ------
    Ledger
        What was really skipped, filled while the model runs.

    Raises
    ------
    ValueError
        For what is no policy, or one that does not fit the model's number of layers.
    RuntimeError
        Where another `skip` of the same thread holds the model.
    UnsupportedModel
        Where the model's feed-forward blocks cannot be found.

    Notes
    -----
    FFN-SkipLLM (Jaiswal et al., EMNLP 2024). The layer that crosses the threshold has been computed already: the
    probe is part of the method's cost. What follows an end token that the model's generation config names is left out
    of the ledger; one that is only an argument of `generate` is not known here. With beams a causal policy goes on in
    the row of the batch where it measured, while its beam may have moved to another. A compiled forward does not see
    the patch; give `generate` ``disable_compile=True`` where it would compile (a static cache on a GPU).
    """
    session = _Session(model, policy, start)
    scope, hooks = session.scope, Hooks()
    with alone(model, scope), _only(session), patched(session.forwards()), hooks.held(), scope.entered():
        session.register(hooks)
        yield session.ledger
    _say_if_idle(session.ledger)


@contextmanager
def _only(session: _Session) -> Iterator[None]:
    """No second rule in the same model."""
    model = session.model
    if model in _SKIPPED:
        raise RuntimeError(
            "expected a model that no other skip(...) holds, but this one is being skipped already; leave that "
            "block first, or combine both rules in one policy"
        )
    with ensured(lambda: _SKIPPED.pop(model, None) if _SKIPPED.get(model) is session else None):
        _SKIPPED[model] = session
        yield


def _say_if_idle(ledger: Ledger) -> None:
    """Say what is easily taken for a policy without effect."""
    if not ledger.idle:
        return
    if ledger.tokens.empty:
        _LOG.warning(
            "no forward pass was seen while skipping: the model was not called, or was called in another thread or as "
            "model.forward(...), where it runs dense; call model(...) or model.generate(...) inside the block"
        )
    else:
        _LOG.warning(
            "nothing was skipped: of the %d tokens read none was decoded and past the policy's warm-up (%s); use a "
            "smaller warm-up or more new tokens, or for given text start=",
            len(ledger.tokens),
            ledger.policy.describe(),
        )


class _Session:
    """One run of `skip`: the stream of tokens, the policy's state in the pass under way, and the ledger."""

    def __init__(self, model: PreTrainedModel, policy: Policy, start: int | Sequence[int] | None) -> None:
        if not isinstance(policy, Policy):
            raise ValueError(
                f"expected a policy such as FFNSkip(0.999), got {policy!r}; make one, or read one with "
                "policies.from_json"
            )
        self.model, self.policy, self.scope = model, policy, Scope()
        self.blocks = find_blocks(model)
        policy.check(len(self.blocks))
        acting = policy.skippable(len(self.blocks)) or (0, -1)
        self._acting = self.blocks[min(acting) : max(acting) + 1]  # the others are left as they are
        self.ledger = Ledger(model, self.blocks, policy)
        self._stream = Stream(start)
        self._carry: list[dict[int, Any]] = [{} for _ in self.blocks]  # per layer: sequence -> last distance
        self._rows: Rows | None = None
        self._recorders: list[Recorder] = []
        self._pending: dict[int, Tensor] = {}  # parallel blocks: the FFN's output until the layer ends

    def register(self, hooks: Hooks) -> None:
        """Hooks that open and close each pass, and those that parallel blocks need."""
        hooks.before(self.model, self._begin)
        for block in self._acting:
            if block.parallel:
                hooks.after(block.layer, self._leaving(block))
        hooks.after(self.model, self._end)

    def forwards(self) -> dict[nn.Module, Callable[..., Any]]:
        """The forwards that stand in for those of the blocks' modules."""
        each = (collapsed(block, partial(self._ffn, block), self.scope) for block in self._acting)
        return {module: forward for own in each for module, forward in own.items()}

    def _begin(self, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        if self.scope:
            rows = self._rows = self._stream.read(by_name(self.model, args, named))
            self._state = self.policy.start(rows.steps, len(self.blocks))
            self._skipped = np.zeros((len(rows), len(self.blocks)), dtype=bool)
            self._recorders = listeners(self.model)
            self._unknown = np.full(len(rows), np.nan, dtype=np.float32)
            self._pending.clear()

    def _end(self, module: nn.Module, args: Any, named: Any, output: Any) -> None:
        if self.scope and self._rows is not None:
            self.ledger.add(self._rows, self._skipped)
            self._rows = None

    def _ffn(self, block: Block, x: Tensor, *extra: Any, run: Callable[..., Any], **named: Any) -> Any:
        """The FFN for those tokens that the policy lets run."""
        if (rows := self._rows) is None:  # a layer called by itself, outside a pass of the whole model
            return run(x, *extra, **named)
        if not rows.stepped:
            rows.check(x, block.index)
        mask = self.policy.skips(self._state, block.index)  # [token]
        some = np.count_nonzero(mask)
        self._needed = self.policy.needs(self._state, block.index)
        measure = self._needed or bool(some and self._recorders)  # a recorder measures by itself what runs whole
        if some:
            self._skipped[:, block.index] = mask
        if some and some == len(mask):
            self._measured(block, rows, mask, None)
            return block.nothing(x)
        if block.adds_residual and (some or measure):
            extra, named = _without_residual(x, extra, named)
        kept = _kept(rows, mask, x) if some else None
        output = run(x, *extra, **named) if kept is None else _partial(block, x, kept, run, extra, named)
        if not measure:
            self._advance(block.index, rows, self._unknown)
        elif block.parallel:
            delta = first(output)
            self._pending[block.index] = delta.clone() if block.overwritten else delta
        else:
            self._measured(block, rows, mask, _sums(block, rows, x, first(output)))
        if block.adds_residual and (some or measure):
            return x + output
        return output

    def _leaving(self, block: Block) -> Callable[..., None]:
        """A parallel block's residual stream is known when its layer ends: the output without the FFN."""

        def hook(module: nn.Module, args: Any, named: Any, output: Any) -> None:
            delta = self._pending.pop(block.index, None) if self.scope else None
            if delta is not None and self._rows is not None:
                precise = torch.promote_types(delta.dtype, torch.float32)
                after = first(output).to(precise)
                x = after - block.multiplier * delta.reshape(after.shape).to(precise)
                mask = self._skipped[:, block.index]
                self._measured(block, self._rows, mask, _sums(block, self._rows, x, delta))

        return hook

    def _measured(self, block: Block, rows: Rows, mask: np.ndarray, abcp: Sums | None) -> None:
        """Hand a layer's sums [4, token] to whoever records, and its distances to the policy; None: nothing ran."""
        layer = block.index
        if self._recorders:
            given = torch.full((4, len(rows)), torch.nan) if abcp is None else torch.as_tensor(abcp)
            for recorder in self._recorders:
                recorder.provide(layer, given, mask)
        if abcp is None or not self._needed:
            return self._advance(layer, rows, self._unknown)
        distance = _distance(abcp)  # [token]
        ran = len(mask) - int(np.count_nonzero(mask))
        if ran < len(mask):
            distance[mask] = np.nan
        self.ledger.probes += ran
        return self._advance(layer, rows, distance)

    def _advance(self, layer: int, rows: Rows, distance: np.ndarray) -> None:
        """One layer on; a causal policy is given the distances of the tokens before."""
        if self.policy.causal:
            distance = previous_token(distance, rows.sequence, self._carry[layer])
        self._state = self.policy.step(self._state, layer, distance)


Sums = Tensor | np.ndarray  # a, b, c and p of `similarity.sums`, [4, token]
_TURNS = 0.05  # least share of |f|^2 across h at which float32 dot products keep p to a relative 1e-4


def _sums(block: Block, rows: Rows, x: Tensor, delta: Tensor) -> Sums:
    """Sums of the tokens that are no padding; for a single token on the CPU by the shortest way."""
    hidden = x.shape[-1]
    if len(rows) == 1 and x.numel() == hidden and x.device.type == "cpu" and x.dtype == delta.dtype == torch.float32:
        h, f = x.reshape(-1), delta.reshape(-1)  # [hidden]
        a, b, c = (torch.dot(*pair).item() for pair in ((h, h), (h, f), (f, f)))
        b, c = b * block.multiplier, c * block.multiplier**2
        if a and a * c - b * b > _TURNS * a * c:
            return np.array([[a], [b], [c], [c - b * b / a]])
    x, delta = x.detach().reshape(-1, hidden), delta.detach().reshape(-1, hidden)
    if rows.index is not None:
        index = torch.from_numpy(rows.index).to(x.device)
        x, delta = x[index], delta[index]
    return sums(x, delta if block.multiplier == 1 else delta.to(torch.float32) * block.multiplier)


def _distance(abcp: Sums) -> np.ndarray:
    """1 - cos [token] as a Trace keeps it, so that the live decision and its replay compare the same numbers."""
    if isinstance(abcp, np.ndarray):
        return np.array([distance_and_growth(abcp[:, 0].tolist())[0]], dtype=np.float32)
    with np.errstate(all="ignore"):
        return distance_and_growth(abcp.double().cpu().numpy())[0].astype(np.float32)


def _kept(rows: Rows, mask: np.ndarray, x: Tensor) -> Tensor:
    """Where in the flattened [batch * width] the tokens stand that run; padding does not."""
    index = np.flatnonzero(~mask) if rows.index is None else rows.index[~mask]
    return torch.from_numpy(index).to(x.device)


def _partial(block: Block, x: Tensor, kept: Tensor, run: Callable[..., Any], extra: tuple, named: dict) -> Any:
    """The FFN of some tokens, zero for the others; what it hands out beside (router scores) is left out."""
    flat = x.reshape(-1, x.shape[-1])  # [batch * width, hidden]

    def pick(argument: Any) -> Any:
        if torch.is_tensor(argument) and argument.shape[:-1] == x.shape[:-1]:
            return _shaped(argument.reshape(-1, argument.shape[-1])[kept], x)
        return argument

    delta = first(run(pick(x), *map(pick, extra), **{name: pick(value) for name, value in named.items()}))
    full = torch.zeros_like(flat)
    full[kept] = delta.reshape(-1, x.shape[-1]).to(full.dtype)
    full = full.reshape(x.shape)
    return (full, *[None] * (block.outputs - 1)) if block.outputs else full


def _shaped(rows: Tensor, like: Tensor) -> Tensor:
    return rows if like.ndim == 2 else rows.unsqueeze(0)


def _without_residual(x: Tensor, extra: tuple, named: dict) -> tuple[tuple, dict]:
    """The arguments with zeros for the residual stream, so that the FFN's own output comes back."""

    def blank(argument: Any) -> Any:
        return torch.zeros_like(x) if argument is x else argument

    return tuple(map(blank, extra)), {name: blank(value) for name, value in named.items()}
