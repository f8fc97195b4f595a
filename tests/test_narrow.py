"""Narrow in place of skip: a model whose weights were really cut, a skip at no width, dense at full, nothing left."""

from __future__ import annotations

import copy
import gc
from dataclasses import replace

import numpy as np
import pytest
import torch

import saturation as st
from saturation.anatomy import UnsupportedModel, feedforwards, find_blocks, find_matrices
from saturation.anatomy.neurons import narrowing
from saturation.policies import Arrays, Narrow
from tests.families import INNER, LAYERS, build
from tests.interrupts import interrupted
from tests.test_neurons import WHOLE
from tests.test_pruning import ROWS
from tests.test_recording import forwards_and_hooks, ids, sentence
from tests.tokens import Words

FAMILIES = pytest.mark.parametrize("family", WHOLE)
ALL = tuple(range(LAYERS))


def action(family="llama", **options) -> Narrow:
    return st.narrow(build(family), None, ROWS, progress=False, **{"sink": 0, **options})


def logits(model, policy=None, tokens=None):
    tokens = ids(2) if tokens is None else tokens
    with torch.no_grad():
        if policy is None:
            return model(tokens).logits
        with st.skip(model, policy, start=0):
            return model(tokens).logits


@FAMILIES
def test_at_full_width_it_is_dense(family):
    model, policy = build(family), st.StaticFFN(ALL, sink=0, action=action(family, width=1.0))
    torch.testing.assert_close(logits(model, policy), logits(model), rtol=1e-5, atol=1e-5)


@FAMILIES
def test_at_no_width_it_is_a_skip_to_the_bit(family):
    model, policy = build(family), st.StaticFFN((1,), sink=2)
    nothing = replace(policy, action=action(family, width=0.0, mean=False))
    assert torch.equal(logits(model, nothing), logits(model, policy))


@pytest.mark.parametrize("family", ["gpt2", "opt", "phi", "llama"])
def test_a_width_that_rounds_to_no_neuron_is_a_skip_too(family):
    """Its bias is left out with the rest: one number decides whether a block is there, not how it was written."""
    model, policy = copy.deepcopy(build(family)), st.StaticFFN((1,), sink=2)
    for one in feedforwards(model, find_matrices(model)):
        if one.down.module.bias is not None:
            torch.nn.init.ones_(one.down.module.bias)
    nothing = replace(policy, action=action(family, width=0.4 / INNER, mean=False))
    assert torch.equal(logits(model, nothing), logits(model, policy))
    with torch.no_grad(), st.skip(model, nothing) as ledger:
        model(ids(2))
    assert not ledger.instead


@FAMILIES
@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("width", [0.0, 0.3])
def test_between_it_is_a_model_whose_weights_were_cut(family, mean, width):
    if not width and (not mean or family == "gpt2"):
        pytest.skip("no width is a skip, tested above; a Conv1D of transformers cannot be without rows")
    model, cut, own = build(family), copy.deepcopy(build(family)), action(family, width=width, mean=mean)
    for layer, one in enumerate(feedforwards(cut, find_matrices(cut))):
        kept = own.arrays[f"order {layer}"][: round(width * one.width)].tolist()
        gone = [neuron for neuron in range(one.width) if neuron not in kept]
        bias = one.down.weight[:, gone] @ torch.from_numpy(own.arrays[f"mean {layer}"][gone]) if mean else None
        narrowing(one, torch.tensor(sorted(kept), dtype=torch.long), bias).put()
    found = logits(model, st.StaticFFN(ALL, sink=0, action=own))
    torch.testing.assert_close(found, logits(cut), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, logits(model), atol=1e-4)


@FAMILIES
def test_a_mean_is_that_of_what_the_block_gives(family):
    """A block of no width adds the mean of what the whole block gives on the calibration texts."""
    if family in ("gemma2", "gemma4_text", "olmo2"):
        pytest.skip("a norm follows the sum of the neurons, so that its mean is not the block's")
    model, mean = build(family), action(family, width=0.0)
    block, outputs, behind = find_blocks(model)[1], [], []
    handle = block.source.register_forward_hook(
        lambda _, args, output: outputs.append(st.anatomy.first(output).clone())
    )
    for row in ROWS:
        logits(model, tokens=torch.tensor([row]))
    handle.remove()
    handle = block.layer.register_forward_hook(lambda _, args, output: behind.append(st.anatomy.first(output)))
    for own in (mean, None):
        logits(model, st.StaticFFN((1,), sink=0, action=own))
    handle.remove()
    expected = torch.cat([output.reshape(-1, output.shape[-1]) for output in outputs]).mean(0) * block.multiplier
    moved = (behind[0] - behind[1]).reshape(-1, expected.shape[-1])
    torch.testing.assert_close(moved, expected.expand_as(moved), rtol=1e-3, atol=1e-4)


@FAMILIES
def test_tokens_that_run_whole_stay_as_they_are_to_the_bit(family):
    """Beside narrowed tokens a whole block gives what it gives beside skipped ones."""
    model, given = build(family), {}
    for name, own in {"skip": None, "narrow": action(family, width=0.4)}.items():
        policy = st.StaticFFN((LAYERS - 1,), sink=3, action=own)
        with torch.no_grad(), st.skip(model, policy) as ledger:
            given[name] = model(ids(2)).logits
    assert torch.equal(given["skip"][:, :3], given["narrow"][:, :3])
    assert not torch.allclose(given["skip"][:, 3:], given["narrow"][:, 3:], atol=1e-5)
    assert ledger.skipped[:, LAYERS - 1].sum() == ledger.skipped.sum() > 0


@FAMILIES
def test_law_4_and_rows_that_disagree_equal_rows_alone(family):
    model, policy = build(family), st.FFNSkip(threshold=0.75, warmup=0, sink=0, action=action(family, width=0.5))
    prompts = ["a b c", "d e f g h", "i"]
    alone = [st.generate(model, Words(), p, policy=policy, max_new_tokens=8) for p in prompts]
    together = st.generate(model, Words(), prompts, policy=policy, max_new_tokens=8)
    assert together.ids == [run.ids[0] for run in alone]
    assert np.array_equal(together.trace.skipped, together.ledger.skipped)
    assert np.array_equal(st.replay(policy, together.trace).skipped, together.ledger.skipped)
    assert np.array_equal(np.isnan(together.trace.distance), together.ledger.skipped) and together.ledger.skipped.any()


@FAMILIES
def test_what_is_recorded_beside_a_narrow_block_is_what_ran(family):
    """Attention and the whole layer are measured on the stream that the narrow block really left."""
    model, policy = build(family), st.StaticFFN((1,), sink=2, action=action(family, width=1.0, mean=False))
    also = ["attention", "block"]
    with torch.no_grad():
        with st.recording.watch(model, also=also) as dense:
            model(ids(2))
        with st.skip(model, policy), st.recording.watch(model, also=also) as narrow:
            model(ids(2))
    one, other = dense.trace(), narrow.trace()
    for name in ("attention_distance", "block_distance"):
        np.testing.assert_allclose(one.groups[name], other.groups[name], rtol=1e-3, atol=1e-5)


# ------------------------------------------------------------------------------------------------ bytes and memory


def test_bytes_are_those_of_what_runs():
    model = build("llama")
    policy = st.StaticFFN((0, 2), sink=0, action=action(width=0.5, mean=False))
    with st.skip(model, policy, start=0) as ledger, torch.no_grad():
        model(ids(1))
        cache = model(ids(1), use_cache=True).past_key_values
        model(ids(1)[:, :1], past_key_values=cache)
    kept = round(INNER * 0.5)
    norm, neuron = 32 * 4, 3 * 32 * 4
    whole, narrow = norm + neuron * INNER, norm + neuron * kept
    assert {layer: one.bytes for layer, one in ledger.instead.items()} == {0: narrow, 2: narrow}
    assert ledger.uncomputed == pytest.approx(2 * (INNER - kept) / (3 * INNER))
    assert ledger.unread == pytest.approx(2 * (whole - narrow) / (3 * whole))
    with st.skip(model, st.StaticFFN((0, 2), sink=0), start=0) as skipped, torch.no_grad():
        model(ids(1))
        cache = model(ids(1), use_cache=True).past_key_values
        model(ids(1)[:, :1], past_key_values=cache)
    assert skipped.unread == pytest.approx(2 / 3) == pytest.approx(skipped.ratios.decode)
    dense, least = 1 - 1 / ledger.ideal, 1 - 1 / skipped.ideal  # shares of all bytes that are saved
    assert dense / least == pytest.approx((whole - narrow) / whole)


def test_copies_are_gone_and_the_weights_were_never_touched():
    model = copy.deepcopy(build("llama"))
    before, state = (
        forwards_and_hooks(model),
        {name: (t.data_ptr(), t._version) for name, t in model.named_parameters()},
    )
    policy = st.StaticFFN(ALL, sink=0, action=action(width=0.5))
    known = {id(one) for one in gc.get_objects() if type(one) is torch.nn.Linear}
    with pytest.raises(KeyboardInterrupt) as stopped, st.skip(model, policy) as ledger, torch.no_grad():
        model(ids())
        made = [one for one in gc.get_objects() if type(one) is torch.nn.Linear and id(one) not in known]
        assert len(made) >= 9
        made.clear()
        raise KeyboardInterrupt
    gc.collect()  # what came is still held, and with it the frames that it passed through
    assert stopped.tb is not None
    assert not [one for one in gc.get_objects() if type(one) is torch.nn.Linear and id(one) not in known]
    assert state == {name: (weight.data_ptr(), weight._version) for name, weight in model.named_parameters()}
    assert forwards_and_hooks(model) == before and ledger.instead


@pytest.mark.timeout(300)
def test_two_hundred_interrupts_leave_no_copy():
    model = copy.deepcopy(build("llama"))
    policy = st.StaticFFN(ALL, sink=0, action=action(width=0.5))
    dense, before = logits(model), forwards_and_hooks(model)
    gc.collect()
    linears = sum(type(one) is torch.nn.Linear for one in gc.get_objects())

    def act():
        with st.skip(model, policy), torch.no_grad():
            for _ in range(20):
                model(ids())

    stopped = interrupted(act, np.random.default_rng(0).uniform(1e-4, 0.02, 200))
    gc.collect()
    assert stopped > 100 and forwards_and_hooks(model) == before and torch.equal(logits(model), dense)
    assert sum(type(one) is torch.nn.Linear for one in gc.get_objects()) == linears


def test_what_does_not_fit_says_how_much(monkeypatch):
    def full(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    policy = st.StaticFFN((1, 2), sink=0, action=action(width=0.5))
    monkeypatch.setattr("saturation.skipping.narrow_copies.narrowed", full)
    expected = (
        "expected room for 0 MB beside the model, a copy of the neurons that narrow blocks run, but there was none at "
        "layer 1; take a smaller width, or let fewer layers be narrowed"
    )
    with pytest.raises(MemoryError, match=sentence(expected)), st.skip(build("llama"), policy):
        pass


# ------------------------------------------------------------------------------------------------ harm, and bad input


def test_harm_of_a_narrow_block_lies_between_none_and_that_of_a_skip():
    model, tokenizer = st.load("demo")
    texts = [example.text for example in st.tasks.bundled("validation").head(2)]
    half = st.narrow(model, tokenizer, texts, width=0.5, progress=False)
    skipped = st.harm(model, tokenizer, texts, progress=False)
    found = st.harm(model, tokenizer, texts, action=half, progress=False)
    whole = st.harm(model, tokenizer, texts, action=replace(half, width=1.0), progress=False)
    means = [one.kl[one.measured].mean() for one in (whole, found, skipped)]
    assert means[0] < 1e-6 < means[1] < means[2] / 2
    assert found.provenance["action"] == "narrow to 50%" and "action" not in skipped.provenance


ELSE = (
    "skip whole blocks, with policies that have no action, or put in their place what saturation.stand_in gives",
    "give the policy no action, so that it skips whole blocks, or what saturation.stand_in gives",
)  # what to do, said where neurons are ordered and where a policy narrows


def narrowed_by_hand(family, own):
    policy = st.StaticFFN((1,), sink=0, action=replace(action(width=0.5), model=family))
    with st.skip(own, policy):
        pass


@pytest.mark.parametrize("family", ["mixtral", "granitemoeshared"])
def test_what_cannot_be_narrowed_is_refused_with_the_reason(family):
    begins = (
        r"^expected every matrix of a decoder layer in an nn.Linear or Conv1D of its own, but layer 0 of \w+ holds .*; "
    )
    with pytest.raises(UnsupportedModel, match=f"{begins}{ELSE[0]}$"):
        action(family)
    with pytest.raises(UnsupportedModel, match=f"{begins}{ELSE[1]}$"):
        narrowed_by_hand(family, build(family))


def test_quantised_weights_are_refused_for_what_is_asked_and_not_for_pruning():
    model = copy.deepcopy(build("llama"))
    model.config.quantization_config = {"quant_method": "some"}
    expected = "expected weights kept as plain floats, but LlamaForCausalLM is quantised; "
    with pytest.raises(UnsupportedModel, match=sentence(expected + ELSE[0])):
        st.narrow(model, None, ROWS, progress=False)
    with pytest.raises(UnsupportedModel, match=sentence(expected + ELSE[1])):
        narrowed_by_hand("llama", model)


def test_an_action_of_another_model_is_refused():
    own = action()
    with (
        pytest.raises(
            ValueError,
            match=sentence(
                "expected an action whose neurons were measured on 'llama', got one of 'other'; measure them on this "
                "model with saturation.narrow"
            ),
        ),
        st.skip(build("llama"), st.StaticFFN((1,), action=replace(own, model="other"))),
    ):
        pass
    few = Arrays({name: array for name, array in own.arrays.items() if not name.endswith("2")})
    with (
        pytest.raises(
            ValueError,
            match=sentence(
                "expected neurons of a model with 3 layers, got those of 'llama' with 2; measure them on this model "
                "with saturation.narrow"
            ),
        ),
        st.skip(build("llama"), st.StaticFFN((1,), action=replace(own, arrays=few))),
    ):
        pass
    short = Arrays({name: array[:7] for name, array in own.arrays.items()})
    with (
        pytest.raises(
            ValueError,
            match=sentence(
                "expected 37 neurons in layer 1 of LlamaForCausalLM, got an action with 7; measure them on this model "
                "with saturation.narrow"
            ),
        ),
        st.skip(build("llama"), st.StaticFFN((1,), action=replace(own, arrays=short))),
    ):
        pass


@pytest.mark.parametrize("width", [-0.1, 1.5, "half", True])
def test_a_width_is_a_share(width):
    expected = f"expected a width from 0 to 1, the share of neurons that run, got {width!r}; 0.5 runs half"
    with pytest.raises(ValueError, match=sentence(expected)):
        action(width=width)


def test_a_score_is_a_known_one():
    expected = "expected a score among energy, relative, fisher, got 'best'; choose one"
    with pytest.raises(ValueError, match=sentence(expected)):
        action(score="best")


# ------------------------------------------------------------------------------------------------ kept in files


def test_a_policy_with_an_action_is_kept_as_it_is(tmp_path):
    policy = st.FFNSkip(0.99, action=action(width=0.25), warmup=3)
    st.policies.save(policy, tmp_path / "rule.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rule.json", "rule.safetensors"]
    again = st.policies.load(tmp_path / "rule.json")
    assert again == policy and hash(again) == hash(policy) and again.to_json() == policy.to_json()
    assert (
        policy.describe() == "FFN-SkipLLM, cosine 0.99, warm-up 3, narrow to 25%"
        or "narrow to 25%" in policy.describe()
    )
    assert torch.equal(logits(build("llama"), again), logits(build("llama"), policy))
    text = (tmp_path / "rule.json").read_text()
    (tmp_path / "rule.json").write_text(text.replace('"action": "Narrow", ', ""))  # as long as there was one action
    assert text != (tmp_path / "rule.json").read_text() and st.policies.load(tmp_path / "rule.json") == policy
    (tmp_path / "rule.safetensors").unlink()
    with pytest.raises(ValueError, match=r"^expected the arrays \w{12}\.\.\. of Narrow beside its JSON, got none such"):
        st.policies.load(tmp_path / "rule.json")
    (tmp_path / "rule.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"^expected the arrays of a policy in .*rule.safetensors, got a damaged file"):
        st.policies.load(tmp_path / "rule.json")
    with pytest.raises(ValueError, match=sentence("expected a policy's file to end in .json, got 'rule'; rename it")):
        st.policies.save(policy, tmp_path / "rule")


def test_a_policy_without_one_is_a_file_of_json(tmp_path):
    policy = st.StaticFFN((1, 2))
    st.policies.save(policy, tmp_path / "rule.json")
    assert [path.name for path in tmp_path.iterdir()] == ["rule.json"]
    assert st.policies.load(tmp_path / "rule.json") == policy and "action" not in policy.to_json()
