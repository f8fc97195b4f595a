"""The token table and the router: fitted to harm, by hand; live as replayed; kept; refused where they do not belong."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import saturation as st
from saturation.cli.arguments import read_policy
from saturation.policies import Arrays, Steps
from saturation.policies.harm_fitting import Split, least, predicted
from saturation.policies.policy import KINDS
from tests.families import FAMILIES, LAYERS, VOCABULARY, build
from tests.test_recording import sentence
from tests.tokens import Words

EVERY_FAMILY = pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "falcon", "bloom", "granite", "gemma2"])
TEXTS = [[7, 8, 9, 10, 11, 12, 13, 14], [9, 8, 7, 12, 11, 13], [14, 7, 10, 8, 12, 9, 13], [8, 11, 7, 14, 9, 10, 12, 13]]


def made(texts=12, length=30, layers=6, ids=9, seed=0, sink=2) -> st.Harm:
    """Harm whose least block is that of the token's id, and which is larger in later layers."""
    rng = np.random.default_rng(seed)
    sequence, position = np.divmod(np.arange(texts * length), length)
    token = rng.integers(0, ids, texts * length)
    tokens = pd.DataFrame(
        {
            "sequence": sequence.astype(np.int32),
            "position": position.astype(np.int32),
            "phase": pd.Categorical.from_codes(np.ones(texts * length, int), categories=["prefill", "decode"]),
            "token_id": token.astype(np.int32),
            "text": "",
        }
    )
    kl = rng.exponential(0.1 * (1 + np.arange(layers)), (texts * length, layers))
    kl[np.arange(texts * length), token % layers] *= 0.01
    kl[position < sink] = np.nan
    return st.Harm(tokens, kl.astype(np.float32), model="made", provenance={"sink": sink, "vocabulary": 40})


def steps_of(harm: st.Harm) -> Steps:
    found = (harm.tokens[name].to_numpy() for name in ("sequence", "position", "token_id"))
    sequence, position, ids = found
    return Steps(sequence, position, np.ones(len(harm), int), ids)


# ------------------------------------------------------------------------------------------------ the token table


def test_a_table_is_the_shrunk_mean_by_hand():
    harm = made()
    policy = st.TokenFFN.fit(harm, count=2, pseudo=4)
    ids, past = harm.tokens["token_id"].to_numpy(), harm.measured
    mean = harm.kl[past].astype(float).mean(axis=0)
    np.testing.assert_allclose(policy.table["mean"], mean, rtol=1e-6)
    assert policy.table["ids"].tolist() == sorted(set(ids[past].tolist()))
    for row, number in enumerate(policy.table["ids"]):
        own = harm.kl[past & (ids == number)].astype(float)
        np.testing.assert_allclose(policy.table["harm"][row], (own.sum(axis=0) + 4 * mean) / (len(own) + 4), rtol=1e-5)


def test_each_token_skips_the_blocks_of_least_mean_harm_past_the_sink():
    harm = made()
    policy = st.TokenFFN.fit(harm, count=2)
    mask = policy.start(steps_of(harm), 6)
    past = harm.tokens["position"].to_numpy() >= 2
    assert (mask.sum(axis=1) == np.where(past, 2, 0)).all() and policy.sink == 2
    own = mask[np.arange(len(harm)), harm.tokens["token_id"].to_numpy() % 6]
    assert own[past].all()  # the block that is harmless at this token is always among them
    unseen = Steps(np.zeros(2, int), np.array([5, 6]), np.ones(2, int), np.array([39, -1]))
    expected = np.isin(np.arange(6), np.argsort(policy.table["mean"])[:2])
    assert np.array_equal(policy.start(unseen, 6), np.tile(expected, (2, 1)))


def test_what_is_predicted_is_of_texts_held_out():
    """Harm that is noise has nothing to be learnt: what is predicted is no better than any choice."""
    harm = made(texts=40)
    policy = st.TokenFFN.fit(harm, count=1)
    split = Split.of(harm, 0.25, 0)
    sequence = harm.tokens["sequence"].to_numpy()
    assert not set(sequence[split.fit]) & set(sequence[split.held]) and len(set(sequence[split.held])) == 10
    trial = st.TokenFFN.fit(replace(harm, kl=np.where(split.fit[:, None], harm.kl, np.nan).astype(np.float32)), count=1)
    mask = trial.start(steps_of(harm), 6)[split.held]
    assert policy.predicted == pytest.approx(predicted(harm.kl[split.held], mask))
    noise = replace(harm, kl=np.random.default_rng(1).permuted(harm.kl[:, :1].repeat(6, 1), axis=1))
    assert st.TokenFFN.fit(noise, count=1).predicted == pytest.approx(np.nanmean(noise.kl), rel=0.15)


@pytest.mark.parametrize("kind", ["table", "router"])
def test_a_predicted_rise_gives_the_most_blocks_that_stay_below(kind, caplog):
    harm = made()
    stream = np.random.default_rng(2).normal(size=(len(harm), 8)).astype(np.float32)

    def fit(**target):
        if kind == "table":
            return st.TokenFFN.fit(harm, **target)
        return st.RoutedFFN.fit(harm, stream, reads=1, **target)

    most = 6 if kind == "table" else 4
    costs = [fit(count=number).predicted for number in range(1, most + 1)]
    assert all(np.diff(costs) > 0)
    for number in range(1, most):
        policy = fit(rise=(costs[number - 1] + costs[number]) / 2)
        assert policy.count == number and policy.predicted == costs[number - 1]
    assert fit(ratio=0.34).count == 2 and fit(rise=99.0).count == most
    with caplog.at_level(logging.WARNING):
        none = fit(rise=costs[0] / 2)
    assert none.count == 0 and "no block can be skipped for a predicted rise of" in caplog.text
    assert not none.start(steps_of(harm), 6).any()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {},
            "expected one of ratio=, count= and rise= as the target, got {'ratio': None, 'count': None, 'rise': None}; "
            "give one of them",
        ),
        ({"count": 7}, "expected to skip between 0 and 6 of 6 blocks of each token, got 7; choose fewer"),
        ({"ratio": -0.5}, "expected to skip between 0 and 6 of 6 blocks of each token, got -3; choose fewer"),
        (
            {"count": 1, "hold_out": 1.0},
            "expected a share of texts to hold out, between 0 and 1, got 1.0; 0.25 is usual",
        ),
    ],
)
def test_targets_that_cannot_be_are_refused(options, expected):
    with pytest.raises(ValueError, match=sentence(expected)):
        st.TokenFFN.fit(made(), **options)


def test_too_little_text_is_refused_and_says_what_it_saw():
    with pytest.raises(
        ValueError,
        match=sentence(
            "expected harm of at least 2 texts, some to fit on and some to judge by, got 1; measure it on more texts"
        ),
    ):
        st.TokenFFN.fit(made(texts=1), count=1)
    with pytest.raises(
        ValueError,
        match=r"^expected calibration texts long enough for a table of tokens, but those fitted on have \d+ different "
        r"ids, and only \d+% of the tokens held out are among them; measure harm on more text$",
    ):
        st.TokenFFN.fit(made(texts=2, ids=5000), count=1)


# ------------------------------------------------------------------------------------------------ the router


def routed(texts=40, signal=0.5, noise=0.0):
    """Harm whose logarithm is linear in the direction of a stream."""
    harm, rng = made(texts=texts, layers=6), np.random.default_rng(0)
    stream = rng.normal(size=(len(harm), 12)).astype(np.float32)
    unit = stream / np.sqrt(np.square(stream).mean(axis=1, keepdims=True))
    log = signal * unit @ rng.normal(size=(12, 6)) - 3 + rng.normal(size=6) + noise * rng.normal(size=(len(harm), 6))
    kl = np.where(harm.measured[:, None], np.exp(log), np.nan).astype(np.float32)
    return replace(harm, kl=kl), stream * 17  # its length says nothing


def test_a_router_finds_what_is_linear():
    harm, stream = routed()
    policy = st.RoutedFFN.fit(harm, stream, reads=1, count=2)
    mask = policy.chosen(stream, 6)
    later = np.where(harm.measured[:, None], harm.kl[:, 2:], 0)
    best = least(later, 2)
    assert (mask[harm.measured][:, 2:] == best[harm.measured]).mean() > 0.9 and not mask[:, :2].any()
    static = np.isin(np.arange(4), np.argsort(np.nanmean(harm.kl[:, 2:], axis=0))[:2])
    oracle, fixed = (predicted(later[harm.measured], each) for each in (best[harm.measured], static))
    assert policy.predicted < oracle + 0.1 * (fixed - oracle)


def test_its_penalty_is_chosen_on_texts_held_out():
    one, other = (
        st.RoutedFFN.fit(*given, reads=0, count=2) for given in (routed(), routed(texts=8, signal=0.01, noise=1.0))
    )
    assert one.penalty < 1e-2 < other.penalty


def test_a_layer_whose_harm_is_rare_and_large_is_no_harmless_one():
    """Two layers of the same median; the mean of one is ten times that of the other."""
    harm, stream = routed()
    kl = np.full_like(harm.kl, 0.1)
    kl[::20, 2], kl[:, 3] = 10.0, 0.2
    harm = replace(harm, kl=np.where(harm.measured[:, None], kl, np.nan).astype(np.float32))
    rng = np.random.default_rng(0)
    policy = st.RoutedFFN.fit(harm, rng.normal(size=stream.shape), reads=1, count=3)
    share = policy.chosen(rng.normal(size=stream.shape), 6).mean(axis=0)
    assert share[3] > 0.9 > 0.1 > share[2]


def test_a_stream_of_other_tokens_is_refused():
    harm, stream = routed()
    expected = (
        "expected a row of the stream for each of 1200 tokens, and a layer from 0 to 4 that it is read at, got {} rows "
        "and layer {}; read the same texts with recording.streams"
    )
    with pytest.raises(ValueError, match=sentence(expected.format(1199, 1))):
        st.RoutedFFN.fit(harm, stream[1:], reads=1, count=1)
    with pytest.raises(ValueError, match=sentence(expected.format(1200, 5))):
        st.RoutedFFN.fit(harm, stream, reads=5, count=1)


# ------------------------------------------------------------------------------------------------ in a model


def fitted(family):
    model = build(family)
    harm = st.harm(model, Words(), TEXTS, sink=1, progress=False)
    stream = st.recording.streams(model, Words(), TEXTS, 0, progress=False)
    return model, st.TokenFFN.fit(harm, count=1), st.RoutedFFN.fit(harm, stream, reads=0, count=1)


@EVERY_FAMILY
def test_law_4_live_as_replayed(family):
    model, table, router = fitted(family)
    assert table.vocabulary == router.vocabulary == VOCABULARY
    runs = st.generate(model, Words(), ["a b c d", "e f"], policy=table, max_new_tokens=6)
    assert np.array_equal(st.replay(table, runs.trace).skipped, runs.ledger.skipped) and runs.ledger.skipped.any()
    assert runs.ledger.probes == 0
    with st.skip(model, router, start=0) as ledger, torch.no_grad():
        for text in TEXTS:
            model(torch.tensor([text]))
    stream = st.recording.streams(model, Words(), TEXTS, 0, progress=False)  # nothing is skipped in front of layer 1
    trace = st.record(model, Words(), TEXTS, progress=False)
    assert np.array_equal(st.replay(router, trace, stream=stream).skipped, ledger.skipped)
    assert np.array_equal(ledger.skipped.sum(axis=1), (trace.tokens["position"] >= 1).astype(int))


@EVERY_FAMILY
def test_law_2_no_block_is_dense(family):
    model, *policies = fitted(family)
    given = torch.tensor([TEXTS[0]])
    with torch.no_grad():
        dense = model(given).logits
        for policy in policies:
            with st.skip(model, replace(policy, count=0)):
                assert torch.equal(model(given).logits, dense)


def test_they_are_kept_as_they_are(tmp_path):
    _, *policies = fitted("llama")
    own = st.narrow(build("llama"), None, TEXTS, width=0.5, progress=False)
    for policy in (*policies, replace(policies[0], action=own)):
        st.policies.save(policy, tmp_path / "rule.json")
        again = st.policies.load(tmp_path / "rule.json")
        assert again == policy and again.to_json() == policy.to_json() and len(policy.to_json()) < 1000
    assert {"TokenFFN", "RoutedFFN"} < set(KINDS)
    assert replace(policies[0], table=Arrays({**policies[0].table, "mean": np.zeros(3)})) != policies[0]


def test_the_command_line_reads_a_file_with_its_arrays(tmp_path):
    _, table, _ = fitted("llama")
    st.policies.save(table, tmp_path / "rule.json")
    assert read_policy(str(tmp_path / "rule.json")) == table


def test_they_are_of_one_model_and_vocabulary():
    model, table, router = fitted("llama")
    for policy, kind in ((table, "TokenFFN"), (router, "RoutedFFN")):
        for changed, expected in (
            (
                {"model": "other"},
                f"expected a {kind} that was fitted on 'llama', got one of 'other'; fit it on harm of this model",
            ),
            (
                {"vocabulary": 98},
                f"expected a {kind} of a vocabulary of 99 tokens, got one of 98; fit it on harm of this model",
            ),
        ):
            with pytest.raises(ValueError, match=sentence(expected)), st.skip(model, replace(policy, **changed)):
                pass
    harm = made()
    with (
        pytest.raises(
            ValueError,
            match=sentence(
                "expected a table of a model with 3 layers, got one of 'made' with 6; fit it on harm of this model"
            ),
        ),
        st.skip(model, st.TokenFFN.fit(harm, count=1)),
    ):
        pass
    with (
        pytest.raises(
            ValueError,
            match=sentence(
                "expected a router of a model with 3 layers, got one of 'made' with 6; fit it on harm of this model"
            ),
        ),
        st.skip(model, st.RoutedFFN.fit(harm, np.ones((len(harm), 4)), reads=0, count=1)),
    ):
        pass


def test_a_table_needs_token_ids():
    expected = "expected steps with token ids, which a table of tokens reads, got none; give token_id="
    with pytest.raises(ValueError, match=sentence(expected)):
        st.TokenFFN.fit(made(), count=1).start(replace(steps_of(made()), token_id=None), 6)


def test_the_explorer_shows_a_table():
    model, table, router = fitted("llama")
    trace = st.record(model, Words(), TEXTS, progress=False)
    explorer = st.widgets.SaturationExplorer(trace, policy=table)
    assert np.array_equal(explorer.skipped, st.replay(table, trace).skipped) and explorer.skipped.any()
    with pytest.raises(ValueError, match=r"^expected stream= beside the trace"):
        explorer.policy = router


def test_legends():
    _, table, router = fitted("llama")
    assert table.describe() == "token table, 1 of 3 FFNs, sink 1"
    assert replace(router, decode_only=True, sink=4).describe() == "router behind layer 0, 1 of 3 FFNs, decode only"
    assert LAYERS == 3 and FAMILIES


# ------------------------------------------------------------------------------------------------ static, by harm


def set_kl(model, layers, sink):
    """Mean KL past the sink with some blocks left out, text by text."""
    parts = []
    with torch.no_grad():
        for text in TEXTS:
            given = torch.tensor([text])
            dense = model(given).logits[0, sink:].double().log_softmax(-1)
            with st.skip(model, st.StaticFFN(tuple(layers), sink=sink)):
                other = model(given).logits[0, sink:].double().log_softmax(-1)
            parts.append((dense.exp() * (dense - other)).sum(-1))
    return float(torch.cat(parts).mean())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_greedy_choice_is_that_of_a_slow_loop(family):
    model, taken = build(family, num_hidden_layers=5) if family == "llama" else build(family, n_layer=5), []
    while len(taken) < 3:
        taken.append(
            min(
                (layer for layer in range(5) if layer not in taken), key=lambda layer: set_kl(model, [*taken, layer], 1)
            )
        )
    found = st.ablation.least_harmful(model, Words(), TEXTS, count=3, candidates=5, sink=1, progress=False)
    assert found == st.StaticFFN(tuple(taken), sink=1)
    one = st.ablation.least_harmful(model, Words(), TEXTS, count=2, candidates=1, sink=1, progress=False)
    single = sorted(range(5), key=lambda layer: set_kl(model, [layer], 1))
    assert one.layers == tuple(single[:2])


def test_a_greedy_choice_of_too_many_is_refused():
    expected = "expected to choose between 0 and 3 blocks, got 4; choose fewer"
    with pytest.raises(ValueError, match=sentence(expected)):
        st.ablation.least_harmful(build("llama"), Words(), TEXTS, count=4, sink=1, progress=False)
