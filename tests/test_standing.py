"""Stand-ins for blocks: a model with other modules in their place, dense where they are exact, nothing left."""

from __future__ import annotations

import copy
import gc
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import saturation as st
from saturation.policies import Arrays, LowRank, Scale
from saturation.skipping.stand_in_modules import Mapped
from tests.families import FAMILIES, HIDDEN, INNER, LAYERS, build
from tests.interrupts import interrupted
from tests.test_narrow import logits
from tests.test_recording import forwards_and_hooks, ids, sentence

ALL = tuple(range(LAYERS))
RNG = np.random.default_rng(3)
SHORT = [RNG.integers(3, 99, size).tolist() for size in (9, 8, 7)]  # fewer tokens than numbers in the stream
LONG = [RNG.integers(3, 99, 20).tolist() for _ in range(12)]
SCALED = ("llama", "gpt2", "mixtral")
PLACES = {"gpt2": "ln_2"}  # of the norm in front of the FFN; elsewhere post_attention_layernorm
EVERY = pytest.mark.parametrize("family", FAMILIES)


def fitted(family="llama", texts=LONG, **options):
    model = build(family) if isinstance(family, str) else family
    return st.stand_in(model, None, texts, progress=False, **{"sink": 0, **options})


def everywhere(action, **options):
    return st.StaticFFN(ALL, **{"sink": 0, "action": action, **options})


def rows_of(model, texts, policy=None):
    return torch.cat([logits(model, policy, torch.tensor([row]))[0] for row in texts])


# ------------------------------------------------------------------------------------------------ laws


@EVERY
def test_of_full_rank_it_is_dense_on_the_texts_it_was_fitted_on(family):
    """Fewer tokens than directions: a linear map can give each of them what the block gave."""
    model = build(family)
    exact = rows_of(model, SHORT, everywhere(fitted(family, SHORT, rank=HIDDEN)))
    torch.testing.assert_close(exact, rows_of(model, SHORT), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(exact, rows_of(model, SHORT, everywhere(None)), atol=0.05)


def test_where_the_block_is_linear_it_is_dense_on_every_text():
    model = copy.deepcopy(build("llama"))
    for layer in model.model.layers:
        layer.mlp = nn.Linear(HIDDEN, HIDDEN)
    other = ids(3)
    found = logits(model, everywhere(fitted(model.eval(), LONG, rank=10**6)), other)
    torch.testing.assert_close(found, logits(model, tokens=other), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(logits(model, everywhere(fitted(model, LONG, rank=20)), other), found, atol=1e-2)


@EVERY
def test_of_rank_0_it_is_the_mean(family):
    model, mean = build(family), fitted(family, by="mean")
    none = replace(fitted(family, rank=5), rank=0)
    torch.testing.assert_close(logits(model, everywhere(none)), logits(model, everywhere(mean)), rtol=0, atol=0)
    assert mean.describe() == none.describe() == "calibration mean"
    assert not torch.allclose(logits(model, everywhere(mean)), logits(model, everywhere(None)), atol=1e-3)


class Constant(nn.Module):
    """Gives for x what a function of it says, in an FFN's place."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, *_):
        return self.function(x)


def by_hand(family, by, rank):
    """A model with other modules in place of its FFNs and their norms, each fitted on dense activations by NumPy."""
    dense, other = build(family), copy.deepcopy(build(family))
    layers = [(m.transformer.h if family == "gpt2" else m.base_model.layers) for m in (dense, other)]
    for layer, changed in zip(*layers, strict=True):
        norm = getattr(layer, PLACES.get(family, "post_attention_layernorm"))
        seen = {"x": [], "f": []}
        handles = [
            norm.register_forward_pre_hook(lambda _, args, seen=seen: seen["x"].append(args[0])),
            layer.mlp.register_forward_hook(lambda _, args, out, seen=seen: seen["f"].append(st.anatomy.first(out))),
        ]
        rows_of(dense, LONG)
        [handle.remove() for handle in handles]
        x, f = (torch.cat([one.reshape(-1, HIDDEN) for one in seen[role]]).double().numpy() for role in "xf")
        setattr(changed, PLACES.get(family, "post_attention_layernorm"), nn.Identity())
        changed.mlp = Constant(function_of(x, f, by, rank))
    return other


def function_of(x, f, by, rank):
    if by == "scale":
        factor = (np.linalg.norm(x + f, axis=1) / np.linalg.norm(x, axis=1)).mean() - 1
        return lambda given: given * factor
    mean = torch.from_numpy(f.mean(0)).float()
    if by == "mean":
        return lambda given: mean.expand(given.shape)
    u = x / np.sqrt((x**2).mean(1, keepdims=True))
    whole, *_ = np.linalg.lstsq(u - u.mean(0), f - f.mean(0), rcond=None)  # [in, out]
    _, _, axes = np.linalg.svd((u - u.mean(0)) @ whole)
    low = torch.from_numpy(whole @ axes[:rank].T @ axes[:rank]).float()
    centre = torch.from_numpy(u.mean(0)).float()
    return lambda given: mean + (given / given.square().mean(-1, keepdim=True).sqrt() - centre) @ low


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "mixtral"])
@pytest.mark.parametrize("by", ["mean", "scale", "map"])
def test_a_run_is_that_of_a_model_with_other_modules(family, by):
    if family == "gpt_neox" and by == "scale":
        pytest.skip("its blocks run beside attention, where no stream can be scaled; refused below")
    action = fitted(family, by=by, rank=4)
    found = logits(build(family), everywhere(action))
    torch.testing.assert_close(found, logits(by_hand(family, by, 4)), rtol=1e-3, atol=1e-3)
    smaller = replace(fitted(family, rank=9), rank=4) if by == "map" else action
    torch.testing.assert_close(logits(build(family), everywhere(smaller)), found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("by", ["mean", "scale", "map"])
@pytest.mark.parametrize("family", SCALED)
def test_tokens_that_run_whole_stay_as_they_are_to_the_bit(family, by):
    model, given = build(family), {}
    for name, own in {"skip": None, by: fitted(family, by=by, rank=3)}.items():
        with torch.no_grad(), st.skip(model, st.StaticFFN((1,), sink=3, action=own)) as ledger:
            given[name] = model(ids(2)).logits
    assert torch.equal(given["skip"][:, :3], given[by][:, :3])
    assert not torch.allclose(given["skip"][:, 3:], given[by][:, 3:], atol=1e-5)
    assert ledger.skipped[:, 1].sum() == ledger.skipped.sum() > 0


def test_fitting_changes_nothing_and_leaves_nothing():
    model = copy.deepcopy(build("llama"))
    before, dense = forwards_and_hooks(model), logits(model)
    for by in ("mean", "scale", "map"):
        fitted(model, by=by)
    assert forwards_and_hooks(model) == before and torch.equal(logits(model), dense)


@pytest.mark.timeout(300)
def test_after_leaving_and_after_an_interrupt_nothing_is_left():
    model, policy = copy.deepcopy(build("llama")), everywhere(fitted(rank=8))
    dense, before = logits(model), forwards_and_hooks(model)

    def act():
        with st.skip(model, policy), torch.no_grad():
            for _ in range(20):
                model(ids())

    stopped = interrupted(act, np.random.default_rng(0).uniform(1e-4, 0.02, 30))
    gc.collect()
    assert stopped > 10 and forwards_and_hooks(model) == before and torch.equal(logits(model), dense)
    assert not [one for one in gc.get_objects() if type(one) is Mapped]


# ------------------------------------------------------------------------------------------------ what it costs


def decoded(model, policy):
    with st.skip(model, policy, start=0) as ledger, torch.no_grad():
        cache = model(ids(1), use_cache=True).past_key_values
        model(ids(1)[:, :1], past_key_values=cache)
    return ledger


def test_bytes_and_flops_are_those_of_what_runs():
    model, rank = build("llama"), 5
    matrices, norm = 3 * HIDDEN * INNER, HIDDEN
    costs = {
        "map": (4 * (2 * HIDDEN * rank + HIDDEN), 2 * HIDDEN * rank),
        "mean": (4 * HIDDEN, 0),
        "scale": (4, HIDDEN),
    }
    skipped = decoded(model, everywhere(None))
    assert skipped.unread == 1 and skipped.uncomputed == 1
    for by, (stored, products) in costs.items():
        ledger = decoded(model, everywhere(fitted(by=by, rank=rank)))
        assert ledger.unread == pytest.approx(1 - stored / (4 * (matrices + norm)))
        assert ledger.uncomputed == pytest.approx(1 - products / matrices)
        assert 1 < ledger.ideal < skipped.ideal


def test_harm_is_that_of_what_stands_in():
    model, options = build("llama"), {"sink": 0, "progress": False}
    skipped = st.harm(model, None, SHORT, **options)
    exact = st.harm(model, None, SHORT, action=fitted(texts=SHORT, rank=HIDDEN), **options)
    mean = st.harm(model, None, SHORT, action=fitted(texts=SHORT, by="mean"), **options)
    assert exact.kl.max() < 1e-6 < mean.kl.mean() and skipped.kl.mean() > 1e-4
    assert [one.provenance.get("action") for one in (skipped, exact, mean)] == [
        None,
        "rank-32 map",
        "calibration mean",
    ]
    with pytest.raises(ValueError, match=r"^expected harm of what the policy does with a block \(rank-32 map\), got "):
        st.TokenFFN.fit(mean, count=1, action=fitted(texts=SHORT, rank=HIDDEN))


def test_few_tokens_are_said(caplog):
    with caplog.at_level(logging.WARNING):
        fitted(texts=SHORT, rank=3)
    assert "a map was fitted on 24 tokens, fewer than the 32 numbers of the stream" in caplog.text


# ------------------------------------------------------------------------------------------------ files, and bad input


@pytest.mark.parametrize("by", ["mean", "scale", "map"])
def test_a_policy_with_a_stand_in_is_kept_as_it_is(tmp_path, by):
    policy = st.FFNSkip(0.9, action=fitted(by=by, rank=4), warmup=0)
    st.policies.save(policy, tmp_path / "rule.json")
    again = st.policies.load(tmp_path / "rule.json")
    assert again == policy and again.to_json() == policy.to_json() and again.describe() == policy.describe()
    assert torch.equal(logits(build("llama"), again), logits(build("llama"), policy))
    text = (tmp_path / "rule.json").read_text().replace(type(policy.action).__name__, "Other")
    (tmp_path / "rule.json").write_text(text)
    expected = "expected an action among Narrow, LowRank, Scale, got 'Other'; name one of them"
    with pytest.raises(ValueError, match=sentence(expected)):
        st.policies.load(tmp_path / "rule.json")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"by": "best"}, "expected by= among mean, scale and map, got 'best'; choose one"),
        (
            {"rank": 0},
            "expected a rank that is a whole number from 1, and a ridge from 0, got 0 and 0.0; by='mean' is a map of "
            "rank 0",
        ),
        ({"sink": 30}, "expected texts of more than 30 tokens, the attention sink, got none; give longer ones"),
        (
            {"family": "gpt_neox", "by": "scale"},
            "expected blocks that read the stream they are added to, but in layer 0 of GPTNeoXForCausalLM attention "
            "and FFN run side by side, so that there is none to scale; take saturation.stand_in(by='mean') or by='map'",
        ),
    ],
)
def test_what_cannot_be_fitted_is_refused(options, expected):
    with pytest.raises(ValueError, match=sentence(expected)):
        fitted(**options)


def test_a_rank_is_one_that_was_fitted():
    action = fitted(rank=4)
    expected = "expected a rank of at most 4, which is what was fitted, got 5; fit more with saturation.stand_in"
    with pytest.raises(ValueError, match=sentence(expected)):
        replace(action, rank=5)
    expected = "expected a rank that is a whole number from 0, got 0.5; 0 adds the mean, 64 is usual"
    with pytest.raises(ValueError, match=sentence(expected)):
        replace(action, rank=0.5)


def test_a_stand_in_of_another_model_is_refused():
    action, model = fitted(rank=2), build("llama")
    few = Arrays({name: array for name, array in action.arrays.items() if not name.endswith("2")})
    short = Arrays({name: array[..., :7] for name, array in action.arrays.items()})
    wrong = {
        replace(action, model="other"): "expected an action whose stand-ins were measured on 'llama', got one of "
        "'other'; measure them on this model with saturation.stand_in",
        LowRank(0, few, "llama"): "expected stand-ins of a model with 3 layers, got those of 'llama' with 2; measure "
        "them on this model with saturation.stand_in",
        Scale(few, "llama"): "expected stand-ins of a model with 3 layers, got those of 'llama' with 0; measure them "
        "on this model with saturation.stand_in",
        LowRank(0, short, "llama"): "expected stand-ins for a stream of 32 numbers in layer 0 of LlamaForCausalLM, got "
        "some of 7; fit them on this model with saturation.stand_in",
    }
    for one, expected in wrong.items():
        with pytest.raises(ValueError, match=sentence(expected)), st.skip(model, everywhere(one)):
            pass


def test_what_does_not_fit_is_said(monkeypatch):
    def full(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    policy = everywhere(fitted(rank=2))
    monkeypatch.setattr("saturation.skipping.stand_in_modules.torch.tensor", full)
    expected = (
        "expected room for what stands in for 3 blocks, but there was none at layer 0; take a smaller rank, or let "
        "fewer layers be skipped"
    )
    with pytest.raises(MemoryError, match=sentence(expected)), st.skip(build("llama"), policy):
        pass
