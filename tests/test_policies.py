"""Policies: an independent reading of the rule, the baselines, fitting, and every sentence."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import traces

from saturation.policies import (
    FFNSkip,
    RandomFFN,
    StaticFFN,
    Steps,
    cold_regions,
    from_json,
    replay,
    replay_thresholds,
)
from saturation.policies.critical_thresholds import critical
from saturation.policies.policy import SINK
from saturation.trace import Trace

LAYERS = 9
OPTIONS = {
    "threshold": [None, 0.9, 0.99, (None, 0.9, 0.99, None, 0.95, 0.9, 0.99, 0.999, 0.5)],
    "cold": [(0, 0), (2, 1)],
    "warmup": [(0, "generated"), (3, "generated"), (7, "position")],
    "horizon": [None, 1, 3],
    "prefill": [False, True],
    "causal": [False, True],
    "sink": [0, 3],
}


def sentence(text: str) -> str:
    return "^" + re.escape(text) + "$"


def made(**options) -> Trace:
    return traces.trace(**{"layers": LAYERS, "sequences": 3, "length": 14, "prefill": 5, **options})


def ragged(seed: int = 0) -> Trace:
    """Sequences of different lengths and prompts: one of a single token, one without a prompt, one only a prompt."""
    sizes = [(14, 5), (1, 1), (9, 2), (6, 0), (4, 4), (17, 8)]
    parts = [made(sequences=1, length=n, prefill=p, seed=10 * seed + i) for i, (n, p) in enumerate(sizes)]
    return Trace.concat(parts)


def rules() -> list[FFNSkip]:
    return [
        FFNSkip(
            threshold,
            cold_start=cold[0],
            cold_end=cold[1],
            warmup=warmup[0],
            warmup_on=warmup[1],
            horizon=horizon,
            prefill=prefill,
            causal=causal,
            sink=sink,
        )
        for threshold, cold, warmup, horizon, prefill, causal, sink in itertools.product(*OPTIONS.values())
    ]


def by_hand(rule: FFNSkip, trace: Trace) -> np.ndarray:
    """The paper's listing, one token and one layer at a time; bool [token, layer]."""
    mask = np.zeros(trace.distance.shape, dtype=bool)
    sequences, positions = trace.tokens["sequence"].tolist(), trace.tokens["position"].tolist()
    for row in range(len(trace)):
        n, source = int(trace.generated[row]), row
        if rule.causal:
            source = row - 1 if row and sequences[row - 1] == sequences[row] else None
        if (n == 0 and not rule.prefill) or positions[row] < rule.sink:
            continue
        if rule.warmup_on == "position" and positions[row] + 1 <= rule.warmup:
            continue
        if rule.warmup_on == "generated" and n > 0 and n <= rule.warmup:
            continue
        left = 0
        for layer in range(rule.cold_start, LAYERS - rule.cold_end):
            if left > 0:
                mask[row, layer] = True
                left -= 1
                continue
            limit = rule.threshold[layer] if isinstance(rule.threshold, tuple) else rule.threshold
            if limit is None or source is None:
                continue
            cosine = 1 - np.float64(trace.distance[source, layer])
            if cosine >= limit:
                left = rule.horizon or LAYERS
    return mask


@pytest.mark.parametrize("seed", range(2))
def test_replay_equals_the_rule_by_hand(seed):
    trace = ragged(seed)
    masks = [replay(rule, trace).skipped for rule in rules()]
    for rule, mask in zip(rules(), masks, strict=True):
        assert np.array_equal(mask, by_hand(rule, trace)), rule
    assert len({mask.tobytes() for mask in masks}) > 100  # the options matter


def test_a_cosine_that_equals_the_threshold_reaches_it():
    trace = made(sequences=1, length=3, prefill=1)
    level = replace(trace, distance=np.full_like(trace.distance, 0.0625))  # exact in binary, and so is 1 - 0.0625
    assert replay(FFNSkip(0.9375, warmup=0, sink=0), level).skipped[1:, 1:].all()
    assert not replay(FFNSkip(np.nextafter(0.9375, 1), warmup=0, sink=0), level).skipped.any()
    same = replace(trace, distance=np.zeros_like(trace.distance))  # a cosine can reach 1, and None never skips
    assert replay(FFNSkip(1.0, warmup=0, sink=0), same).skipped.any()
    assert not replay(FFNSkip(None, warmup=0, sink=0), same).skipped.any()


# --- baselines ----------------------------------------------------------------------------------------------------


def test_random_skips_exactly_its_share_of_every_token():
    trace = ragged()
    for ratio, count in ((0.0, 0), (1 / 3, 3), (0.4, 4), (0.66, 6)):
        mask = replay(RandomFFN(ratio, cold_start=2, cold_end=1, sink=0), trace).skipped
        assert (mask.sum(axis=1) == count).all() and not mask[:, [0, 1, 8]].any()
    decoded = replay(RandomFFN(1 / 3, decode_only=True, sink=0), trace).skipped
    assert np.array_equal(decoded.sum(axis=1), np.where(trace.decoding, 3, 0))


def test_random_is_uniform_and_seeded():
    trace, rule = made(sequences=100, length=20), RandomFFN(1 / 3, seed=1, cold_start=2, cold_end=1, sink=0)
    mask = replay(rule, trace).skipped[:, 2:8]
    assert np.abs(mask.mean(axis=0) - 0.5).max() < 0.04  # 2,000 draws: 3.6 standard errors
    together = (mask[:, :, None] & mask[:, None, :]).mean(axis=0)[~np.eye(6, dtype=bool)]
    assert np.abs(together - 0.2).max() < 0.04  # 3 of 6: each pair in a fifth of the draws
    assert np.array_equal(mask, replay(rule, trace).skipped[:, 2:8])
    for other in (2, -1, 2**70):
        agree = (mask == replay(replace(rule, seed=other), trace).skipped[:, 2:8]).mean()
        assert agree == pytest.approx(0.5, abs=0.04)
    by_sequence = mask.reshape(100, 20, 6)  # nor do sequences or positions repeat each other
    assert (by_sequence[1:] == by_sequence[:-1]).mean() == pytest.approx(0.5, abs=0.04)
    assert (by_sequence[:, 1:] == by_sequence[:, :-1]).mean() == pytest.approx(0.5, abs=0.04)


def test_random_depends_on_seed_sequence_and_position_alone():
    trace, rule = ragged(), RandomFFN(1 / 3, seed=1)
    steps, mask = Steps.of(trace), replay(rule, trace).skipped
    order = np.random.default_rng(0).permutation(len(trace))
    for rows in (order, order[:7], order[7:8], order[8:]):
        some = Steps(steps.sequence[rows], steps.position[rows], steps.generated[rows])
        state = rule.start(some, LAYERS)
        drawn = np.stack([rule.skips(state, layer) for layer in range(LAYERS)], axis=1)
        assert np.array_equal(drawn, mask[rows])


def test_random_per_run_draws_once():
    once = replay(RandomFFN(1 / 3, seed=1, per="run", sink=0), ragged()).skipped
    assert (once == once[0]).all() and once[0].sum() == 3
    runs = {replay(RandomFFN(1 / 3, seed=seed, per="run", sink=0), ragged()).skipped[0].tobytes() for seed in range(20)}
    assert len(runs) > 12  # of 84 choices


def test_static_skips_its_layers_of_every_token():
    trace = ragged()
    expected = np.isin(np.arange(LAYERS), (1, 4))[None].repeat(len(trace), axis=0)
    assert np.array_equal(replay(StaticFFN((4, 1), sink=0), trace).skipped, expected)
    late = replay(StaticFFN((4, 1), decode_only=True, sink=0), trace).skipped
    assert np.array_equal(late, expected & trace.decoding[:, None])


def test_static_takes_the_most_similar_layers():
    trace = made()
    chosen = StaticFFN.fit(trace, ratio=1 / 3, cold_start=1, sink=0).layers
    mean = trace.distance[:, 1:].mean(axis=0)
    assert set(chosen) == set((np.argsort(mean)[:3] + 1).tolist())
    assert StaticFFN.fit(trace, count=2, sink=0).layers == tuple(
        sorted(np.argsort(trace.distance.mean(axis=0))[:2].tolist())
    )


# --- the attention sink -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sink", [0, 1, 3, 50])
def test_no_policy_skips_at_the_first_positions_of_a_sequence(sink):
    trace = ragged()
    positions = trace.tokens["position"].to_numpy()
    every = [
        StaticFFN((1, 4), sink=sink),
        RandomFFN(0.4, sink=sink),
        RandomFFN(0.4, per="run", sink=sink),
        *(replace(rule, sink=sink) for rule in rules()[::3]),
    ]
    for policy in every:
        mask, free = replay(policy, trace).skipped, replay(replace(policy, sink=0), trace).skipped
        assert not mask[positions < sink].any()
        if not policy.causal:  # past the sink nothing changes, but where a causal rule reads what the sink skipped
            assert np.array_equal(mask[positions >= sink], free[positions >= sink])
    assert sum(type(policy) is FFNSkip for policy in every) > 50


def test_fits_leave_the_sink_out():
    trace = made(cosines=[0.5, 0.9, 0.99, 0.99, 0.98, 0.99, 0.99, 0.98, 0.9])
    positions = trace.tokens["position"].to_numpy()
    distance = trace.distance.copy()
    distance[positions < 2] = [1e-7, 1.9, 1.9, 1.9, 1e-7, 1.9, 1.9, 1.9, 1.9]  # the opposite of what the rest says
    odd = replace(trace, distance=distance)
    keep = positions >= 2
    rest = replace(
        odd,
        tokens=odd.tokens[keep],
        skipped=odd.skipped[keep],
        **{name: array[keep] for name, array in odd.groups.items()},
    )
    assert StaticFFN.fit(odd, count=3, sink=2) == replace(StaticFFN.fit(rest, count=3, sink=0), sink=2)
    assert StaticFFN.fit(odd, count=3, sink=0) != StaticFFN.fit(rest, count=3, sink=0)
    read = replace(odd, tokens=odd.tokens.assign(phase="decode"))  # given text that counts as decode from its start
    rest = replace(rest, tokens=rest.tokens.assign(phase="decode"))
    assert cold_regions(read, sink=2) == cold_regions(rest, sink=0) != cold_regions(read, sink=0)
    for fit in ({"percentile": 80}, {"ratio": 0.2}):
        options = {"warmup": 0, "cold_start": 1, "cold_end": 1, **fit}
        ours, theirs = FFNSkip.fit(read, sink=2, **options), FFNSkip.fit(rest, sink=0, **options)
        if "percentile" in fit:
            assert ours.threshold == theirs.threshold != FFNSkip.fit(read, sink=0, **options).threshold
        assert ours.sink == 2 and not replay(ours, read).skipped[positions < 2].any()


# --- fitting ------------------------------------------------------------------------------------------------------


FIT = [
    {},
    {"horizon": 2},
    {"causal": True},
    {"cold_start": 1, "cold_end": 2, "warmup": 3},
    {"warmup": 6, "warmup_on": "position", "prefill": True},
]


@pytest.mark.parametrize("options", FIT)
def test_fit_comes_as_near_to_a_ratio_as_it_can_from_below(options):
    trace, options = ragged(), {"cold_start": 0, "cold_end": 0, "warmup": 0, "sink": 1, **options}
    never = FFNSkip(None, layers=LAYERS, **options)
    distances = np.unique(trace.distance).astype(np.float64)
    every = {replay(replace(never, threshold=max(1 - d - 1e-12, -1.0)), trace).ratios.decode for d in distances} | {0.0}
    assert len(every) > 30
    for ratio in (0.0, 0.1, 0.25, 0.29, 0.5, *sorted(every)[5:30:5]):  # these are met exactly
        policy = FFNSkip.fit(trace, ratio=ratio, **options)
        assert replay(policy, trace).ratios.decode == max(rate for rate in every if rate <= ratio)
        assert policy == replace(never, threshold=policy.threshold)


def test_a_ratio_out_of_reach_is_said(caplog):
    FFNSkip.fit(ragged(), ratio=0.2, warmup=0, cold_start=0, cold_end=0)
    assert not caplog.messages
    policy = FFNSkip.fit(ragged(), ratio=0.9, warmup=3, cold_start=2, cold_end=1)
    reached = replay(policy, ragged()).ratios.decode
    assert caplog.messages == [
        "the ratio asked for is out of reach: 90% of the FFN blocks of decoded tokens, where warm-up 3 and cold "
        f"layers 2 and 1 let {reached:.0%} be skipped on this trace; use a smaller warm-up or fewer cold layers"
    ]


def test_fit_counts_distances_that_rounding_took_out_of_range():
    trace = made(sequences=1, length=6, prefill=1)
    for distance in (-1e-6, 0.0, 1e-20, 2 + 5e-6):
        flat = replace(trace, distance=np.full_like(trace.distance, distance))
        for policy in (
            FFNSkip.fit(flat, percentile=50, warmup=0, cold_start=0, cold_end=0, sink=0),
            FFNSkip.fit(flat, ratio=0.95, warmup=0, cold_start=0, cold_end=0, sink=0),
            FFNSkip.fit(flat, ratio=0.95, warmup=0, cold_start=0, cold_end=0, sink=0, horizon=8),
        ):
            assert replay(policy, flat).ratios.decode == (8 / 9 if distance < 2 else 0)


@pytest.mark.parametrize("percentile", [0, 37.5, 80, 100])
def test_fit_to_a_percentile(percentile):
    trace = ragged()
    policy = FFNSkip.fit(trace, percentile=percentile, warmup=2, cold_start=2, cold_end=1, sink=0)
    cells = 1 - trace.distance[trace.generated > 2, 2:8].astype(np.float64)
    assert policy.threshold == pytest.approx(np.percentile(cells, percentile), abs=1e-12)
    assert replay(policy, trace).skipped.any() or percentile == 100
    if percentile in (0, 100):  # the extreme cells themselves count
        assert (policy.threshold <= cells).sum() == {0: cells.size, 100: 1}[percentile]


def test_cold_regions_are_the_layers_that_stand_out():
    cosines = [0.2, 0.9, 0.99, 0.99, 0.99, 0.99, 0.99, 0.98, 0.9]
    trace = made(cosines=cosines)
    assert cold_regions(trace) == (2, 1)
    fitted = FFNSkip.fit(trace, ratio=0.2, warmup=0)
    assert (fitted.cold_start, fitted.cold_end) == (2, 1)
    fitted = FFNSkip.fit(trace, ratio=0.2, warmup=0, cold_end=3)  # what is given stays
    assert (fitted.cold_start, fitted.cold_end) == (2, 3)


def test_cold_regions_are_of_decoded_tokens_where_there_are_some():
    trace = made(cosines=[0.99] * LAYERS)
    distance = trace.distance.copy()
    distance[~trace.decoding, 0] = 1.0
    assert cold_regions(replace(trace, distance=distance)) == (0, 0)
    assert cold_regions(replace(trace, distance=distance).select(phase="prefill")) == (1, 0)


@pytest.mark.parametrize("value", [0.0, -1e-6])
def test_cold_regions_of_a_model_whose_blocks_do_nothing(value):
    trace = made()
    assert cold_regions(replace(trace, distance=np.full_like(trace.distance, value))) == (0, 0)


def test_cold_regions_leave_two_layers_or_none_is_cold():
    trace = traces.trace(layers=3)
    distance = np.full_like(trace.distance, 1.0)
    distance[:, 1] = 0.01
    distance[:, 2] = 0.01
    assert cold_regions(replace(trace, distance=distance)) == (1, 0)
    one = trace.distance.copy()
    one[:] = (0.9, 0.01, 1.0)
    assert cold_regions(replace(trace, distance=one), factor=0.5) == (0, 0)


def test_json_brings_every_policy_back_to_the_last_digit():
    trace = made()
    fitted = [FFNSkip.fit(trace, ratio=0.2, warmup=0), FFNSkip.fit(trace, percentile=70, warmup=0)]
    for policy in (*rules()[::11], *fitted, RandomFFN(0.25, seed=3, per="run"), StaticFFN((4, 2))):
        again = from_json(policy.to_json())
        assert again == policy and from_json(json.loads(policy.to_json())) == policy
        assert np.array_equal(replay(again, trace).skipped, replay(policy, trace).skipped)


def test_numbers_of_numpy_are_plain_in_a_policy():
    policy = FFNSkip(np.float32(0.5), cold_start=np.int64(1), warmup=np.int32(2))
    assert policy == FFNSkip(0.5, cold_start=1, warmup=2) == from_json(policy.to_json())
    per_layer = FFNSkip((0.5, None, 0.75))
    assert FFNSkip([np.float64(0.5), None, 0.75]) == per_layer and hash(FFNSkip([0.5, None, 0.75])) == hash(per_layer)
    assert FFNSkip(np.array([0.5, 0.75])).threshold == (0.5, 0.75)
    static = StaticFFN(np.array([4, 2]), decode_only=np.bool_(True))
    assert static == StaticFFN((4, 2), decode_only=True) == from_json(static.to_json())


def test_legends_tell_policies_apart():
    assert FFNSkip(0.999).describe() == "FFN-SkipLLM, cosine 0.999, warm-up 25"
    assert (
        FFNSkip(0.99985, horizon=2, causal=True, warmup=0).describe() == "FFN-SkipLLM, cosine 0.99985, next 2, causal"
    )
    assert FFNSkip(None).describe() == "FFN-SkipLLM, never"
    assert RandomFFN(0.25).describe() == "random FFN, 25%"
    assert StaticFFN((5, 4)).describe() == "static FFN, layers 4, 5"
    assert StaticFFN((5,)).describe() == "static FFN, layer 5"
    assert StaticFFN((5,), sink=SINK).describe() == "static FFN, layer 5"
    assert StaticFFN((5,), sink=0).describe() == "static FFN, layer 5, sink 0"
    assert RandomFFN(0.25, sink=1, seed=2).describe() == "random FFN, 25%, sink 1, seed 2"
    assert FFNSkip(0.999, sink=8).describe() == "FFN-SkipLLM, cosine 0.999, sink 8, warm-up 25"
    rule = FFNSkip(0.99, prefill=True, cold_start=3, cold_end=2, warmup_on="position", causal=True, layers=16)
    assert rule.describe() == "FFN-SkipLLM, cosine 0.99, causal, prefill too, cold 3+2, warm-up 25, by position"
    drawn = RandomFFN(1 / 8, seed=3, cold_end=1, per="run", decode_only=True)
    assert drawn.describe() == "random FFN, 12.5% once, decode only, cold 0+1, seed 3"


@pytest.mark.parametrize(
    "rules",
    [
        [FFNSkip(0.99, **option) for option in (
            {}, {"warmup": 5}, {"warmup_on": "position"}, {"cold_start": 3}, {"cold_end": 3}, {"prefill": True},
            {"horizon": 2}, {"causal": True})],
        [StaticFFN((5, 6)), StaticFFN((5,)), StaticFFN((5, 6), decode_only=True)],
        [RandomFFN(0.25, **option) for option in (
            {}, {"seed": 1}, {"cold_start": 1}, {"cold_end": 1}, {"per": "run"}, {"decode_only": True})],
    ],
)  # fmt: skip
def test_no_two_rules_have_one_name(rules):
    """As tables and `saturation eval` tell policies apart by it."""
    names = [rule.describe() for rule in rules]
    assert len(set(names)) == len(names)


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda: FFNSkip(1.2),
            "expected a threshold that is a cosine in [-1, 1], or None to never skip, got 1.2; a saturated block has a "
            "cosine such as 0.999",
        ),
        (
            lambda: FFNSkip(0.9, horizon=0),
            "expected cold_start, cold_end and warmup of at least 0 and a horizon of at least 1 or None, got 0, 0, 25 "
            "and 0; correct them",
        ),
        (
            lambda: FFNSkip(0.9, warmup_on="tokens"),
            "expected warmup_on to be 'generated' or 'position', got 'tokens'; choose one",
        ),
        (
            lambda: FFNSkip((0.9, 0.9)).check(LAYERS),
            "expected one threshold per layer, 9 of them, got 2; give one for all, or None for layers that shall not "
            "be probed",
        ),
        (
            lambda: FFNSkip((0.9, None, -1.5)),
            "expected a threshold that is a cosine in [-1, 1], or None to never skip, got -1.5; a saturated block has "
            "a cosine such as 0.999",
        ),
        (
            lambda: FFNSkip(0.9, layers=12).check(LAYERS),
            "expected a model with 12 layers, for which this policy was fitted, got one with 9; fit it anew on a trace "
            "of this model",
        ),
        (
            lambda: replay(FFNSkip(0.9, cold_start=5, cold_end=4), made()),
            "expected cold regions that leave layers to skip, but cold_start=5 and cold_end=4 cover all 9 layers; make "
            "them smaller",
        ),
        (
            lambda: replay(StaticFFN((2, 9)), made()),
            "expected layers of a model with 9, numbered from 0 to 8, got 9; leave it out",
        ),
        (
            lambda: replay(FFNSkip(0.9), made().select(layers=(3, 5))),
            "expected a trace of all layers of its model, but this one keeps the selected layers 3, 5; give the trace "
            "that they were selected from",
        ),
        (
            lambda: StaticFFN.fit(made(skip=0.5, seed=1), count=1),
            f"expected a dense trace to fit on, but in this one {made(skip=0.5, seed=1).skipped.mean():.1%} of the "
            "blocks were skipped; record one without a policy",
        ),
        (
            lambda: FFNSkip.fit(made(length=0), ratio=0.2, cold_start=1, cold_end=1),
            "expected a trace with tokens to fit on, got an empty one; record some",
        ),
        (lambda: cold_regions(made(length=0)), "expected a trace with tokens to fit on, got an empty one; record some"),
        (
            lambda: replay_thresholds(FFNSkip(0.9), made(), [0.9, 1.5]),
            "expected a threshold that is a cosine in [-1, 1], or None to never skip, got 1.5; a saturated block has a "
            "cosine such as 0.999",
        ),
        (
            lambda: RandomFFN(0.9, cold_start=2).check(LAYERS),
            "expected at least 8 layers to choose from, but cold_start=2 and cold_end=0 leave 7 of 9; make them or the "
            "ratio smaller",
        ),
        (
            lambda: RandomFFN(1.5),
            "expected a ratio in [0, 1) and cold regions of at least 0 layers, got 1.5, 0 and 0; ratio 0.25 skips a "
            "quarter of all FFN blocks",
        ),
        (lambda: RandomFFN(0.5, per="layer"), "expected per to be 'token' or 'run', got 'layer'; choose one"),
        *(
            (
                lambda value=value: FFNSkip(value),
                f"expected a threshold that is a cosine in [-1, 1], or None to never "
                f"skip, got {value!r}; a saturated block has a cosine such as 0.999",
            )
            for value in ("0.9", True, {})
        ),
        *(
            (
                lambda name=name, value=value: FFNSkip(0.9, **{name: value}),
                f"expected {name} of FFNSkip to be {kind}, got {value!r}; correct it",
            )
            for name, value, kind in (
                ("warmup", None, "a whole number"),
                ("warmup", 2.5, "a whole number"),
                ("cold_end", True, "a whole number"),
                ("horizon", 1.5, "a whole number or None"),
                ("prefill", "no", "True or False"),
                ("causal", 1, "True or False"),
                ("layers", "9", "a whole number or None"),
            )
        ),
        (
            lambda: from_json('{"policy": "RandomFFN", "ratio": 0.2, "seed": "a"}'),
            "expected seed of RandomFFN to be a whole number, got 'a'; correct it",
        ),
        (lambda: RandomFFN("0.2"), "expected ratio of RandomFFN to be a number, got '0.2'; correct it"),
        *(
            (
                lambda given=given: StaticFFN(given),
                f"expected layers of StaticFFN to be a list of whole numbers, got {given!r}; write one as (3,)",
            )
            for given in (3, "12", (1.7,), None)
        ),
        (lambda: StaticFFN((1, 1)), "expected different layer numbers from 0, got (1, 1); correct them"),
        (
            lambda: StaticFFN.fit(made(), ratio=0.2, count=1),
            "expected either ratio= or count=, got 0.2 and 1; give one of them",
        ),
        *(
            (
                lambda given=given: StaticFFN.fit(made(), **given),
                "expected a ratio in [0, 1] and cold regions of at least 0 layers, got "
                f"{given['ratio']}, {given.get('cold_start', 0)} and 0; 0.25 takes a quarter of all layers",
            )
            for given in ({"ratio": float("nan")}, {"ratio": 0.2, "cold_start": -1})
        ),
        (
            lambda: StaticFFN.fit(made(), count=9, cold_end=2),
            "expected to choose between 0 and 7 layers, those that the cold regions leave of 9, got 9; choose fewer",
        ),
        (
            lambda: FFNSkip.fit(made()),
            "expected either ratio= or percentile= as the target, got None and None; give one of them",
        ),
        (
            lambda: FFNSkip.fit(made(), ratio=25, warmup=0),
            "expected a skip ratio in [0, 1), got 25; 0.25 skips a quarter of all FFN blocks",
        ),
        (
            lambda: FFNSkip.fit(made(), percentile=101, warmup=0),
            "expected a percentile between 0 and 100, got 101; 90 skips the top tenth",
        ),
        (
            lambda: FFNSkip.fit(made(), ratio=0.2, warmup=50),
            "expected decoded tokens past the warm-up of 50 and the sink of 4 positions, but the trace has none; "
            "record more new tokens (max_new_tokens), give a start position, or fit with a smaller warmup",
        ),
        (
            lambda: StaticFFN((1,), sink=-1),
            "expected sink to be a number of positions from 0, got -1; 0 lets the first token be skipped",
        ),
        (lambda: FFNSkip(0.9, sink=1.5), "expected sink of FFNSkip to be a whole number, got 1.5; correct it"),
        *(
            (
                make,
                "expected tokens past the attention sink, which is the first 14 positions of each sequence, but the "
                "longest has 14; record longer texts, or give a smaller sink",
            )
            for make in (
                lambda: cold_regions(made(), sink=14),
                lambda: StaticFFN.fit(made(), count=1, sink=14),
                lambda: FFNSkip.fit(made(), ratio=0.2, warmup=0, sink=14),
            )
        ),
        (
            lambda: from_json({"policy": "FFNSkip", "treshold": 0.9}),
            "expected options of FFNSkip among sink, action, threshold, cold_start, cold_end, warmup, warmup_on, "
            "horizon, prefill, causal, layers, got 'treshold'; correct it",
        ),
        (
            lambda: from_json('{"policy": "FFNSkip", "warmup": 0}'),
            """expected the option 'threshold' of FFNSkip, got '{"policy": "FFNSkip", "warmup": 0}'; add it""",
        ),
        (
            lambda: critical(FFNSkip(0.9, horizon=2, warmup=0), made()),
            "expected a rule that skips until the cold end and decides from its own token's distances, got "
            "'FFN-SkipLLM, cosine -1, next 2'; use replay, which takes every rule",
        ),
    ],
)
def test_bad_input_is_said(make, expected):
    with pytest.raises(ValueError, match=sentence(expected)):
        make()


@pytest.mark.parametrize("given", ['{"policy": "ShortGPT"}', '{"policy": ["a"]}', '{"layers": [3]}', "[3]", "3"])
def test_an_unknown_policy_is_answered_with_the_known_ones(given):
    with pytest.raises(ValueError) as caught:
        from_json(given)
    known = re.fullmatch(
        f"expected a 'policy' among (.+), got {re.escape(repr(given))}; name one of them", str(caught.value)
    )
    assert known and {"FFNSkip", "RandomFFN", "StaticFFN"} <= set(known[1].split(", "))
