"""Threshold search: proposes thresholds per layer from a recorded trace and its harm, for live runs to confirm."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..policies import FFNSkip, cold_regions, replay
from ..policies.ffnskip import cosines
from ..policies.policy import dense
from ..progress import bar
from ..trace import Harm, Trace

if TYPE_CHECKING:
    import optuna

_FIRST = 5  # initial trials, with one threshold for all layers
_QUANTILES = 64  # quantiles of a layer's distances, from which thresholds are chosen
_POPULATION = 20  # size of a generation; with Optuna's 50 a few hundred trials are too few generations


def propose(
    trace: Trace,
    harm: Harm,
    *,
    rule: FFNSkip | None = None,
    trials: int = 1000,
    count: int = 8,
    most: float = 0.5,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, FFNSkip]:
    """Search thresholds per layer for FFN-SkipLLM by replay, and propose the best at several shares of blocks.

    A replay tells which blocks a setting would skip on a recorded trace; harm tells the effect of each single block.
    Optuna's NSGA-II (Deb et al., IEEE Trans. Evol. Comp. 6:182, 2002) searches thresholds that skip more for less
    harm. Several blocks together harm more than their sum, and a skipped block changes the distances behind it. So
    these are only proposals: give them to `sweep`, and its rows to `tune`.

    Parameters
    ----------
    trace, harm
        Dense, of the same texts, which must not be examples to evaluate the proposals on:
        ``st.record(model, tokenizer, texts)`` and ``st.harm(model, tokenizer, texts)``.
    rule
        Gives the fixed options: cold regions, horizon, warm-up. None: FFNSkip with horizon 1, warm-up 0 and the cold
        regions of `cold_regions`.
    trials
        Number of settings to replay.
    count
        Number of proposals at most, spread over the shares of skipped blocks.
    most
        Largest share of the blocks of decoded tokens that a proposal may skip.
    seed
        Seed of the search.
    progress
        Show a bar where there is a terminal or a notebook.

    Returns
    -------
    dict
        Policies by name, such as "searched 12.5%", by rising share. For `sweep` and `tune` add "dense".

    Raises
    ------
    ImportError
        Where Optuna is not installed (extra `tune`).
    ValueError
        For a harm of other texts, or of another action than the rule's; a trace that skipped, or has no decoded token
        past the sink and the warm-up; and numbers out of range.
    """
    optuna = _optuna()
    if min(trials, count) < 1 or not 0 < most <= 1:
        raise ValueError(
            f"expected trials and count of at least 1 and most between 0 and 1, got {trials}, {count} and {most}; "
            "correct them"
        )
    harm.aligned(trace)
    space = _Space.of(trace, harm, rule, most)
    study = _study(optuna, seed)
    for place in np.linspace(0, _QUANTILES - 1, _FIRST).round().astype(int).tolist():
        study.enqueue_trial(dict.fromkeys(map(str, space.layers), place))
    for _ in bar(range(trials), desc="searching", unit="trial", progress=progress):
        trial = study.ask()
        study.tell(trial, space.judged(trial))
    found = {share: trial.params for trial in study.best_trials if (share := trial.values[0]) > 0}
    shares = np.array(sorted(found))
    wanted = np.linspace(shares[0], shares[-1], count) if len(shares) else ()
    kept = dict.fromkeys(float(shares[np.abs(shares - one).argmin()]) for one in wanted)
    return {f"searched {share:.1%}": space.policy(found[share]) for share in kept}


class _Space:
    """The search space: for each layer, the quantile of its distances up to which a block counts as saturated."""

    def __init__(self, trace: Trace, harm: Harm, rule: FFNSkip, most: float) -> None:
        self.trace, self.rule, self.most = trace, rule, most
        self.layers = list(rule.skippable(trace.layers))[:-1]  # behind the last one there is nothing to skip
        steps = trace.decoding & harm.measured
        self.decoded, self.kl = steps, np.nan_to_num(harm.kl)
        levels = np.quantile(trace.distance[steps].astype(np.float64), np.linspace(0, 1, _QUANTILES - 1), axis=0)
        self.cosines = cosines(levels)  # [quantile, layer]

    @classmethod
    def of(cls, trace: Trace, harm: Harm, rule: FFNSkip | None, most: float) -> _Space:
        """Check the inputs, and use the default rule where none is given."""
        if rule is None:
            start, end = cold_regions(trace)
            rule = FFNSkip(None, cold_start=start, cold_end=end, warmup=0, horizon=1, layers=trace.layers)
        action = None if rule.action is None else rule.action.describe()
        if action != (measured := harm.provenance.get("action")):
            raise ValueError(
                f"expected harm of what the rule does with a block ({action or 'leave it out'}), got harm of another "
                f"action ({measured or 'leave it out'}); measure it with the same action="
            )
        rule.check(trace.layers)
        dense(trace, rule.sink)
        if not (trace.decoding & harm.measured).any():
            raise ValueError(
                "expected decoded tokens past the attention sink in the trace, got none; record longer texts, or with "
                "a start position"
            )
        found = cls(trace, harm, rule, most)
        if not len(found.layers):
            raise ValueError(
                "expected a rule that leaves at least two layers between its cold regions, got "
                f"{rule.cold_start} and {rule.cold_end} cold ones of {trace.layers}; make them smaller"
            )
        loosest = dict.fromkeys(map(str, found.layers), _QUANTILES - 1)
        if not found.skipped(loosest).any():
            raise ValueError(
                "expected a rule that can skip something on this trace, got one that never does "
                f"({rule.describe()}); give it a smaller warm-up or fewer cold layers, or record longer texts"
            )
        return found

    def policy(self, places: dict[str, Any]) -> FFNSkip:
        """The rule with a threshold for each layer; index 0 never skips behind that layer."""
        found: list[float | None] = [None] * self.trace.layers
        for layer in self.layers:
            if place := places[str(layer)]:
                found[layer] = float(self.cosines[place - 1, layer])
        return replace(self.rule, threshold=tuple(found))

    def skipped(self, places: dict[str, Any]) -> np.ndarray:
        """Blocks that the rule would skip at decoded tokens, [token, layer] bool."""
        return replay(self.policy(places), self.trace).skipped[self.decoded]

    def judged(self, trial: optuna.Trial) -> tuple[float, float]:
        """The objectives of a trial: share of skipped blocks at decoded tokens, and their summed harm per token, nats.

        A share above the maximum counts as 0.
        """
        places = {str(layer): trial.suggest_int(str(layer), 0, _QUANTILES - 1) for layer in self.layers}
        skipped = self.skipped(places)
        share = float(skipped.mean())
        return share if share <= self.most else 0.0, float(
            np.where(skipped, self.kl[self.decoded], 0).sum(axis=1).mean()
        )


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ImportError(
            "expected Optuna for a search of many numbers, which is not installed; pip install 'saturation[tune]'"
        ) from error
    return optuna


def _study(optuna: Any, seed: int) -> Any:
    """An Optuna study with two objectives, without Optuna's messages."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        sampler = optuna.samplers.NSGAIISampler(seed=seed, population_size=_POPULATION)
        return optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    finally:
        optuna.logging.set_verbosity(before)
