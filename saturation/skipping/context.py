"""`skip`: a model in a policy's hands for the length of a block, and as it was behind it."""

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
_SKIPPED: WeakKeyDictionary[PreTrainedModel, Session] = WeakKeyDictionary()  # by whom


@contextmanager
def skip(model: PreTrainedModel, policy: Policy, *, start: int | Sequence[int] | None = None) -> Iterator[Ledger]:
    """Skip feed-forward blocks of a model in every forward pass that the block runs.

    Works around anything that calls the model: transformers' `generate` (greedy, sampling, beams, padded
    batches), a pipeline, or a bare forward over given text. A skipped FFN does not run, nor its norm; attention
    always runs. Where the policy has an action, that runs in the block's place: some of its neurons, from a copy that
    is made on entry and gone at the end, or a stand-in. Only the context that entered is affected, and at the end the
    model is as it was. Where another thread skips or watches in the same model, such as a widget's, this one waits
    for its turn.

    Parameters
    ----------
    model
        A causal language model of transformers, in eval mode, or a wrapper of one (PEFT, torch.compile and others).
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
        For what is no policy, or one that does not fit the model's number of layers, or was fitted for another model.
    RuntimeError
        Where another `skip` of the same thread holds the model.
    UnsupportedModel
        Where the model's feed-forward blocks cannot be found, or cannot be narrowed as the policy's action asks.
    MemoryError
        Where what runs in place of blocks does not fit.

    Notes
    -----
    FFN-SkipLLM (Jaiswal et al., EMNLP 2024). The layer that crosses the threshold has been computed already: the
    probe is part of the method's cost. What follows an end token that the model's generation config names is left out
    of the ledger; one that is only an argument of `generate` is not known here. With beams a causal policy goes on in
    the row of the batch where it measured, while its beam may have moved to another. What was compiled runs
    as it was written inside the block, which is said once.
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
    """No second rule in the same model."""
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
    """What runs in place of blocks, for as long as the block lasts."""
    with restored(session.instead.clear):
        session.prepare()
        yield


def _say_if_idle(ledger: Ledger, *, given: bool) -> None:
    """Say what is easily taken for a policy without effect; of likelihoods only where no start of theirs was given."""
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
