"""Searches of many numbers: a recorded trace and its harm propose settings, which live runs then confirm."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..policies import FFNSkip, cold_regions, replay
from ..policies.ffnskip import cosines
from ..progress import bar
from ..trace import Harm, Trace

if TYPE_CHECKING:
    import optuna

_FIRST = 5  # one threshold for all layers, at as many shares, to begin with
_QUANTILES = 64  # of a layer's distances, among which thresholds are chosen
_POPULATION = 20  # of a generation; with Optuna's own 50 a few hundred trials are too few generations


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
    """Thresholds per layer for the rule of FFN-SkipLLM, searched by replay: the best at several shares of blocks.

    A replay says which blocks a setting would skip on a recorded trace, the harm of the same tokens what these blocks
    do one by one. Optuna's NSGA-II (Deb et al., IEEE Trans. Evol. Comp. 6:182, 2002) searches thresholds that skip
    more for less. Blocks harm together more than one by one, and what is skipped shifts the distances behind it, so
    that this only proposes: hand the proposals to `sweep`, and its rows to `tune`.

    Parameters
    ----------
    trace, harm
        Dense, of the same texts, which are no examples that the proposals are judged on:
        ``st.record(model, tokenizer, texts)`` and ``st.harm(model, tokenizer, texts)``.
    rule
        What is not searched: cold regions, horizon, warm-up. None: FFNSkip with horizon 1 and warm-up 0, and the cold
        regions that `cold_regions` finds.
    trials
        Settings that are replayed.
    count
        Proposals at most, spread over the shares that they skip.
    most
        Share of the blocks of decoded tokens above which nothing is proposed.
    seed
        Of the search.
    progress
        Show a bar where there is a terminal or a notebook.

    Returns
    -------
    dict
        Policies by name, such as "searched 12.5%", by rising share; as `sweep` and `tune` take them, "dense" aside.

    Raises
    ------
    ImportError
        Where Optuna is not installed (extra `tune`).
    ValueError
        For a harm of other texts, or of another action than the rule's; a trace that skipped, or has no decoded token
        past the sink and the warm-up; and numbers that cannot be.
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
    """What is searched: for each layer, how far down its distances a block still counts as saturated."""

    def __init__(self, trace: Trace, harm: Harm, rule: FFNSkip, most: float) -> None:
        self.trace, self.rule, self.most = trace, rule, most
        self.layers = list(rule.skippable(trace.layers))[:-1]  # behind the last one there is nothing to skip
        steps = trace.decoding & harm.measured
        self.decoded, self.kl = steps, np.nan_to_num(harm.kl)
        levels = np.quantile(trace.distance[steps].astype(np.float64), np.linspace(0, 1, _QUANTILES - 1), axis=0)
        self.cosines = cosines(levels)  # [quantile, layer]

    @classmethod
    def of(cls, trace: Trace, harm: Harm, rule: FFNSkip | None, most: float) -> _Space:
        """Checked, and with the rule that is usual where none is given."""
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
        return found

    def policy(self, places: dict[str, Any]) -> FFNSkip:
        """The rule with a threshold for each layer; place 0 never skips behind it."""
        found: list[float | None] = [None] * self.trace.layers
        for layer in self.layers:
            if place := places[str(layer)]:
                found[layer] = float(self.cosines[place - 1, layer])
        return replace(self.rule, threshold=tuple(found))

    def judged(self, trial: optuna.Trial) -> tuple[float, float]:
        """Share of the blocks of decoded tokens that is skipped, and their summed harm per token, nats.

        Too much counts as nothing, at a price.
        """
        places = {str(layer): trial.suggest_int(str(layer), 0, _QUANTILES - 1) for layer in self.layers}
        skipped = replay(self.policy(places), self.trace).skipped[self.decoded]  # [token, layer]
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
    """Two goals; what Optuna says of it is not for this reader."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        sampler = optuna.samplers.NSGAIISampler(seed=seed, population_size=_POPULATION)
        return optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    finally:
        optuna.logging.set_verbosity(before)
