"""The context manager `skip`: runs a model with a policy inside a `with` block, and restores it afterwards."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from transformers import PreTrainedModel

from ..patching import Hooks, exclusive, patched, restored, uncompiled
from ..policies import Policy
from .ledger import Ledger
from .session import Session

_LOG = logging.getLogger(__name__)
_SKIPPED: WeakKeyDictionary[PreTrainedModel, Session] = WeakKeyDictionary()  # the session of each model


@contextmanager
def skip(model: PreTrainedModel, policy: Policy, *, start: int | Sequence[int] | None = None) -> Iterator[Ledger]:
    """Skip feed-forward blocks of a model in every forward pass inside a `with` block.

    Works with anything that calls the model: transformers' `generate` (greedy, sampling, beams, padded batches), a
    pipeline, or a bare forward over given text. A skipped FFN does not run, nor does its norm; attention always runs.
    A policy's action runs in the block's place: some of its neurons, from a copy that exists until the end, or a
    stand-in. Only the context (thread or task) that entered is affected, and the model is restored at the end. While
    another thread skips or watches in the same model, such as a widget's, this one waits.

    Parameters
    ----------
    model
        A causal language model of transformers, in eval mode, or a wrapper of one (PEFT, torch.compile and others).
    policy
        The policy that chooses the blocks, such as `FFNSkip`.
    start
        Position from which given text counts as decode (one, or one per sequence), so that policies that leave prefill
        alone act on teacher-forced text. None: only steps on a filled KV cache are decode.

    Yields
    ------
    Ledger
        A record of what was skipped, filled while the model runs.

    Raises
    ------
    ValueError
        For an object that is no policy, or a policy that does not fit the number of layers or was fitted on another
        model.
    RuntimeError
        Where another `skip` of the same thread holds the model.
    UnsupportedModel
        Where the model's feed-forward blocks cannot be found, or cannot be narrowed as the policy's action asks.
    MemoryError
        Where the stand-ins or narrow copies do not fit into memory.

    Notes
    -----
    FFN-SkipLLM (Jaiswal et al., EMNLP 2024). The block that crosses the threshold has run already: the probe is part of
    the method's cost. The ledger leaves out tokens after an end token of the model's generation config; an end token
    that is only an argument of `generate` is unknown here. With beams a causal policy continues in the batch row where
    it measured, while the beam may have moved to another row. Compiled modules run uncompiled inside the block, which
    is logged once.
    """
    session = Session(model, policy, start)
    scope, hooks = session.scope, Hooks()
    with (
        exclusive(session.model, scope),
        _only(session),
        _prepared(session),
        uncompiled(model),
        patched(session.forwards()),
        hooks.held(),
        scope.entered(),
    ):
        session.register(hooks)
        yield session.ledger
    _say_if_idle(session.ledger, given=start is not None)


@contextmanager
def _only(session: Session) -> Iterator[None]:
    """Register the session; RuntimeError where the model is being skipped already."""
    model = session.model
    if model in _SKIPPED:
        raise RuntimeError(
            "expected a model that no other skip(...) holds, but this one is being skipped already; leave that "
            "block first, or combine both rules in one policy"
        )
    with restored(lambda: _SKIPPED.pop(model, None) if _SKIPPED.get(model) is session else None):
        _SKIPPED[model] = session
        yield


@contextmanager
def _prepared(session: Session) -> Iterator[None]:
    """Make the stand-ins or copies of a policy's action, and drop them at the end."""
    with restored(session.instead.clear):
        session.prepare()
        yield


def _say_if_idle(ledger: Ledger, *, given: bool) -> None:
    """Warn where the policy had no effect because of how it was used; of likelihoods only without a given start."""
    if not ledger.idle:
        if not given and (idle := ledger.idle_passes):
            _LOG.warning(
                "in %d of %d forward passes nothing could be skipped: they read text that nothing was decoded after, "
                "as tasks of likelihood do, and the policy leaves prefill alone (%s); give skip their start=, or run "
                "tasks of lm-evaluation-harness with saturation.harness.evaluate",
                idle,
                ledger.passes,
                ledger.policy.describe(),
            )
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
