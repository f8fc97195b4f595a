"""More of a layer than its FFN: removed layers, zeroed attention, keys and values of all tokens, fits, bad input."""

from __future__ import annotations

import copy
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch
import traces
from transformers import DynamicCache

import saturation as st
from saturation.anatomy import UnsupportedModel, find_blocks
from saturation.cli.arguments import read_policy
from saturation.policies import Arrays, Narrow, from_json, from_words
from tests.families import VOCABULARY, build
from tests.test_recording import forwards_and_hooks, sentence
from tests.tokens import Words

DEPTH = 5
SIZES = {"gpt2": {"n_layer": DEPTH}}
OUTPUT = {"gpt2": "attn.c_proj", "gpt_neox": "attention.dense"}  # where attention ends; else as in llama
FAMILIES = ("llama", "qwen2", "qwen3", "gemma3_text", "gpt2", "gpt_neox")
EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)
TEXTS = [[7, 8, 9, 10, 11, 12, 13, 14], [9, 8, 7, 12, 11, 13], [14, 7, 10, 8, 12, 9, 13]]
POLICIES = {
    "removed": st.StaticLayers((1, 3), sink=1),
    "attention": st.StaticAttention((0, 2, 4), sink=1),
    "drawn": st.RandomLayers(0.4, seed=2, sink=1),
    "budget": st.SkipDecode(4, 2, 6, sink=1),
    "spaced": st.UnifiedLayers(1.7, decode_only=True, sink=1),
    "exit": st.EarlyExit(0.01, first=2, sink=1),
}
EVERY_POLICY = pytest.mark.parametrize("name", POLICIES)


def deep(family: str):
    return build(family, **SIZES.get(family, {"num_hidden_layers": DEPTH}))


def ids(batch: int = 2, width: int = 7) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (batch, width), generator=torch.Generator().manual_seed(1))


def whole(model, policy=None, tokens=None, **named):
    """Logits of one pass without a cache."""
    with ExitStack() as stack, torch.no_grad():
        ledger = stack.enter_context(st.skip(model, policy, **named)) if policy is not None else None
        return model(ids() if tokens is None else tokens, use_cache=False).logits, ledger


def stepped(model, policy=None, first: int = 3, tokens=None):
    """Logits of a prefill and of decode steps on its cache; that cache."""
    tokens = ids() if tokens is None else tokens
    with ExitStack() as stack, torch.no_grad():
        ledger = stack.enter_context(st.skip(model, policy)) if policy is not None else None
        out = model(tokens[:, :first], use_cache=True)
        logits = [out.logits]
        for at in range(first, tokens.shape[1]):
            out = model(tokens[:, at : at + 1], past_key_values=out.past_key_values, use_cache=True)
            logits.append(out.logits)
    return torch.cat(logits, dim=1), out.past_key_values, ledger


def removed(model, layers):
    """A copy of the model in which these layers are not there."""
    cut = copy.deepcopy(model)
    (stack,) = (part for part in cut.modules() if isinstance(part, torch.nn.ModuleList) and len(part) == DEPTH)
    kept = [layer for layer in range(DEPTH) if layer not in layers]
    for layer in sorted(layers, reverse=True):
        del stack[layer]
    for number, layer in enumerate(stack):
        for part in layer.modules():
            if hasattr(part, "layer_idx"):
                part.layer_idx = number
    if getattr(cut.config, "layer_types", None):
        cut.config.layer_types = [cut.config.layer_types[layer] for layer in kept]
    cut.config.num_hidden_layers = len(kept)
    return cut


# --- laws ---------------------------------------------------------------------------------------------------------


@EVERY_FAMILY
def test_removed_layers_are_as_if_they_were_not_there(family):
    model, policy = deep(family), st.StaticLayers((1, 3), sink=0)
    cut = removed(model, policy.layers)
    torch.testing.assert_close(whole(model, policy)[0], whole(cut)[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(stepped(model, policy)[0], stepped(cut)[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(whole(model)[0], whole(cut)[0], atol=1e-3)


@EVERY_FAMILY
def test_dropped_attention_is_one_that_adds_zero(family):
    model, policy = deep(family), st.StaticAttention((0, 3), sink=0)
    silent = copy.deepcopy(model)
    for layer in policy.layers:
        output = find_blocks(silent)[layer].layer.get_submodule(OUTPUT.get(family, "self_attn.o_proj"))
        for parameter in output.parameters():
            parameter.data.zero_()
    torch.testing.assert_close(whole(model, policy)[0], whole(silent)[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(stepped(model, policy)[0], stepped(silent)[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(whole(model)[0], whole(silent)[0], atol=1e-3)


@EVERY_FAMILY
@EVERY_POLICY
def test_later_tokens_attend_to_what_was_left_out_before(family, name):
    """Prefill and decode together are one pass, whose attention runs where any of its tokens has it."""
    model, policy = deep(family), replace(POLICIES[name], decode_only=False)
    once, ledger = whole(model, policy)
    by_steps, cache, steps = stepped(model, policy)
    torch.testing.assert_close(by_steps, once, rtol=1e-4, atol=1e-5)
    for one in ("skipped", "dropped"):
        assert np.array_equal(getattr(ledger, one), getattr(steps, one))
    assert ledger.dropped.any() and all(cache.get_seq_length(layer) == 7 for layer in range(DEPTH))


@EVERY_POLICY
def test_keys_and_values_are_those_of_the_stream_that_was_there(name):
    """GPT-2 has no rotary embedding: its keys are a matrix of what the layer reads, whether it was left out or not."""
    model, streams = deep("gpt2"), {}
    whole(model, POLICIES[name])  # how attention is found is seen by hooks
    handles = [
        block.layer.register_forward_pre_hook(
            lambda _, args, number=number: streams.setdefault(number, []).append(args[0].clone())
        )
        for number, block in enumerate(find_blocks(model))
    ]
    _, cache, ledger = stepped(model, POLICIES[name])
    for handle in handles:
        handle.remove()
    for number, block in enumerate(find_blocks(model)):
        layer, kept = block.layer, cache.layers[number]
        given = layer.attn.c_attn(layer.ln_1(torch.cat(streams[number], dim=1)))  # [batch, width, 3 * hidden]
        for expected, found in zip(given.chunk(3, dim=-1)[1:], (kept.keys, kept.values), strict=True):
            torch.testing.assert_close(found.transpose(1, 2).flatten(2), expected, rtol=1e-5, atol=1e-6)
    assert ledger.dropped.any()


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "gpt_neox"])
@EVERY_POLICY
def test_law_4_replay_reproduces_the_ledger(family, name):
    if name == "exit":
        pytest.skip("it decides by early logits, which no trace holds; it is compared with one by hand below")
    policy = POLICIES[name]
    runs = st.generate(deep(family), Words(), ["a b c", "d e f g h", "i"], policy=policy, max_new_tokens=5)
    found = st.replay(policy, runs.trace)
    assert np.array_equal(found.skipped, runs.ledger.skipped) and np.array_equal(found.dropped, runs.ledger.dropped)
    assert found.ratios == runs.ledger.ratios and np.array_equal(runs.trace.skipped, runs.ledger.skipped)
    assert runs.ledger.dropped.any() and runs.ledger.skipped.any() == (name != "attention")


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
@EVERY_POLICY
def test_rows_that_disagree_equal_rows_alone(family, name):
    """Of several texts, padded side by side, each is written as by itself; a random draw knows its number."""
    if name == "drawn":
        pytest.skip("it draws by the number of the sequence, which is another alone")
    model, prompts = deep(family), ["a b c", "d e f g h", "i"]
    alone = [st.generate(model, Words(), one, policy=POLICIES[name], max_new_tokens=6) for one in prompts]
    together = st.generate(model, Words(), prompts, policy=POLICIES[name], max_new_tokens=6)
    assert together.ids == [one.ids[0] for one in alone]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@EVERY_POLICY
def test_law_3_nothing_is_left_behind(name, error):
    model = deep("qwen3")
    before, dense = forwards_and_hooks(model), whole(model)[0]
    with pytest.raises(error), st.skip(model, POLICIES[name]), torch.no_grad():
        cache = model(ids(), use_cache=True).past_key_values

        def fails(*_, **__):
            raise error

        cache.update = fails  # in the midst of what stores keys and values
        model(ids(width=1), past_key_values=cache)
    assert forwards_and_hooks(model) == before and torch.equal(whole(model)[0], dense)


def test_what_is_left_out_is_not_computed():
    """Matrices of NaN show what is read: of attention the keys' and values' alone, and without a cache none."""
    model = copy.deepcopy(deep("llama"))
    with torch.no_grad():
        dense = [st.StaticLayers((), sink=0), st.StaticAttention((), sink=0)]
        for block in find_blocks(model):
            for part in (block.layer.self_attn.q_proj, block.layer.self_attn.o_proj):
                part.weight.fill_(torch.nan)
    every = tuple(range(DEPTH))
    for policy in (st.StaticLayers(every, sink=0), st.StaticAttention(every, sink=0)):
        assert stepped(model, policy)[0].isfinite().all() and whole(model, policy)[0].isfinite().all()
    assert all(stepped(model, policy)[0].isnan().any() for policy in dense)
    with torch.no_grad():
        find_blocks(model)[0].layer.self_attn.k_proj.weight.fill_(torch.nan)
    assert whole(model, policy)[0].isfinite().all() and stepped(model, policy)[1].layers[0].keys.isnan().any()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma3_text"])
@EVERY_POLICY
def test_recorders_inside_and_outside_see_the_same(family, name):
    """Attention that was dropped turns nothing, nor does a whole layer."""
    found, also = [], ("attention", "block")
    for inside in (False, True):
        with ExitStack() as stack, torch.no_grad():
            entered = [
                st.skip(deep(family), POLICIES[name], start=0),
                st.recording.watch(deep(family), start=0, also=also),
            ]
            contexts = [stack.enter_context(one) for one in (entered if inside else reversed(entered))]
            ledger, recorder = contexts if inside else reversed(contexts)
            deep(family)(ids())
        found.append(recorder.trace())
        assert np.array_equal(found[-1].skipped, ledger.skipped)
        np.testing.assert_allclose(found[-1].attention_distance[ledger.dropped], 0, atol=1e-6)
        np.testing.assert_allclose(found[-1].block_distance[ledger.dropped & ledger.skipped], 0, atol=1e-6)
    for column in ("distance", "growth", "attention_distance", "block_distance"):
        np.testing.assert_allclose(*(getattr(one, column) for one in found), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"^expected a dense trace to fit on, but in this one"):
        st.StaticAttention.fit(found[0], count=1, sink=1)


def test_a_watch_around_does_not_see_how_attention_is_found():
    model = copy.deepcopy(deep("llama"))
    with torch.no_grad(), st.recording.watch(model) as recorder, st.skip(model, st.StaticLayers((1,))):
        model(ids(1))
    assert len(recorder.trace()) == 7


@pytest.mark.parametrize("cache", ["static", None])
def test_it_works_inside_generate(cache):
    model, policy = deep("qwen2"), st.StaticLayers((1, 3), sink=0)
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    options |= {"cache_implementation": cache, "disable_compile": True} if cache else {}
    expected = removed(model, policy.layers).generate(ids(), **options)
    with st.skip(model, policy) as ledger:
        assert torch.equal(model.generate(ids(), **options), expected)
    assert ledger.dropped[:, [1, 3]].all() and not ledger.dropped[:, [0, 2, 4]].any()


# --- what it saves ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["layers", "attention"])
def test_the_ledger_counts_what_is_not_read(kind):
    model, gone = deep("llama"), (1, 3)
    policy = (st.StaticLayers if kind == "layers" else st.StaticAttention)(gone, decode_only=True, sink=0)
    ledger = st.generate(model, Words(), "a b c", policy=policy, max_new_tokens=5, progress=False).ledger

    def size(*parts) -> int:
        return sum(parameter.numel() for part in parts for parameter in part.parameters())

    layers = [block.layer for block in find_blocks(model)]
    left = sum(size(layers[one].self_attn.q_proj, layers[one].self_attn.o_proj) for one in gone)
    if kind == "layers":
        left += sum(size(layers[one].mlp, layers[one].post_attention_layernorm) for one in gone)
    dense = size(model) - VOCABULARY * 32  # one row of the embedding
    assert ledger.ideal == pytest.approx(dense / (dense - left))
    assert ledger.unread_layers == pytest.approx(left / size(*layers))
    norms = 32 * (2 * DEPTH, len(gone))[0]
    matrices = left - (32 * len(gone) if kind == "layers" else 0)
    assert ledger.undone == pytest.approx(matrices / (size(*layers) - norms))
    assert ledger.unread == ledger.ratios.decode == pytest.approx(2 / DEPTH if kind == "layers" else 0)


def test_a_fused_matrix_is_read_whole():
    model, policy = deep("gpt2"), st.StaticAttention((1,), decode_only=True, sink=0)
    ledger = st.generate(model, Words(), "a b c", policy=policy, max_new_tokens=5, progress=False).ledger
    (attention,) = ledger.attention.values()
    layer = find_blocks(model)[1].layer
    assert attention.keys == (layer.attn.c_attn,) and attention.idle == ()
    left = sum(parameter.numel() for parameter in layer.attn.c_proj.parameters())
    every = sum(parameter.numel() for block in find_blocks(model) for parameter in block.layer.parameters())
    assert ledger.unread_layers == pytest.approx(left / every)


# --- choices ------------------------------------------------------------------------------------------------------


def means(model, part, sink):
    """1 - cosine over what enters and leaves a layer, or the stream before and behind its attention, [layer]."""
    seen = {number: [] for number in range(DEPTH)}

    def keep(number, x, y):
        cosine = torch.nn.functional.cosine_similarity(x[0, sink:].double(), y[0, sink:].double(), dim=-1)
        seen[number].append(1 - cosine)

    handles = []
    for number, block in enumerate(find_blocks(model)):
        layer = block.layer
        if part == "block":
            hook = lambda _, args, out, number=number: keep(number, args[0], st.anatomy.first(out))  # noqa: E731
            handles.append(layer.register_forward_hook(hook))
        else:
            entered = {}
            handles.append(layer.register_forward_pre_hook(lambda _, args, e=entered: e.update(x=args[0].clone())))
            hook = lambda _, args, out, e=entered, n=number: keep(n, e["x"], e["x"] + out[0])  # noqa: E731
            handles.append(
                layer.get_submodule("attn" if hasattr(layer, "attn") else "self_attn").register_forward_hook(hook)
            )
    with torch.no_grad():
        for text in TEXTS:
            model(torch.tensor([text]))
    for handle in handles:
        handle.remove()
    return np.array([float(torch.cat(seen[number]).mean()) for number in range(DEPTH)])


@pytest.mark.parametrize("sink", [0, 2])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_layers_of_least_influence_are_those_by_hand(family, sink):
    """ShortGPT's block influence, and the importance of attention, from hooks of their own."""
    model = deep(family)
    trace = st.record(model, Words(), TEXTS, also=("attention", "block"), progress=False)
    for kind, part in ((st.StaticLayers, "block"), (st.StaticAttention, "attention")):
        order = np.argsort(means(model, part, sink)).tolist()
        for count in range(DEPTH + 1):
            assert kind.fit(trace, count=count, sink=sink) == kind(tuple(sorted(order[:count])), sink=sink)
        inner = [layer for layer in order if 1 <= layer < DEPTH - 1][:2]
        assert kind.fit(trace, ratio=0.4, cold_start=1, cold_end=1, sink=sink).layers == tuple(sorted(inner))


def loss_of(model):
    with torch.no_grad():
        parts = [
            torch.nn.functional.cross_entropy(model(given).logits[0, :-1].double(), given[0, 1:], reduction="none")
            for given in (torch.tensor([text]) for text in TEXTS)
        ]
    return float(torch.cat(parts).mean())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_sleb_takes_what_a_slow_loop_over_removed_layers_takes(family):
    model, taken = deep(family), []
    while len(taken) < 3:
        left = [layer for layer in range(1, DEPTH - 1) if layer not in taken]
        taken.append(min(left, key=lambda layer: loss_of(removed(model, [*taken, layer]))))
    found = st.ablation.sleb(model, Words(), TEXTS, count=3, sink=0, batch_size=2, chunk=4, progress=False)
    assert found == st.StaticLayers(tuple(taken), sink=0)
    assert st.ablation.sleb(model, Words(), TEXTS, count=0, progress=False) == st.StaticLayers(())


def test_a_budget_falls_with_the_position_and_its_layers_are_nested():
    policy = st.SkipDecode(most=6, least=2, length=5, sink=0)
    mask = st.replay(policy, traces.trace(sequences=2, length=8, layers=6)).skipped.reshape(2, 8, 6)
    assert np.array_equal(mask[0], mask[1])  # the same for all sequences of a batch
    assert (~mask[0]).sum(axis=1).tolist() == [6, 5, 4, 3, 2, 2, 2, 2]
    for running, fewer in zip(~mask[0][:-1], ~mask[0][1:], strict=True):
        assert running[0] and not (fewer & ~running).any()
        assert np.flatnonzero(fewer)[1:].tolist() == list(range(6 - int(fewer.sum()) + 1, 6))  # the upper ones
    assert st.SkipDecode(3, 3, 1).budget(np.arange(3)).tolist() == [3, 3, 3]


def test_unified_skipping_is_evenly_spaced():
    for layers, speedup, running in ((12, 2.0, [0, 2, 4, 7, 9, 11]), (9, 3.0, [0, 4, 8]), (5, 1.0, [0, 1, 2, 3, 4])):
        policy = st.UnifiedLayers(speedup, sink=0)
        mask = st.replay(policy, traces.trace(layers=layers)).dropped
        assert np.flatnonzero(~mask[0]).tolist() == running and (mask == mask[0]).all()


def test_random_layers_are_the_blocks_that_random_ffn_draws():
    trace, options = traces.trace(layers=9), {"ratio": 0.4, "seed": 3, "cold_start": 1}
    layers, blocks = (st.replay(kind(**options), trace) for kind in (st.RandomLayers, st.RandomFFN))
    assert np.array_equal(layers.skipped, blocks.skipped) and np.array_equal(layers.dropped, blocks.skipped)
    assert not blocks.dropped.any() and layers.skipped.any()


# --- early exit ---------------------------------------------------------------------------------------------------


def exit_by_hand(model, prompt, steps, threshold, first):
    """CALM on a LLaMA, one token and one layer at a time: text, what was left out [token, layer], cache, probes."""
    inner, cache, tokens, masks, probes = model.model, DynamicCache(config=model.config), list(prompt), [], 0
    waiting = list(range(len(prompt)))
    while len(tokens) < len(prompt) + steps:
        h = inner.embed_tokens(torch.tensor([[tokens[at] for at in waiting]]))
        rotary, many = inner.rotary_emb(h, torch.tensor([waiting])), len(waiting)
        blocked = torch.full((many, many), float("-inf")).triu(1)[None, None] if many > 1 else None
        left, row = False, []
        for number, layer in enumerate(inner.layers):
            named = {"position_embeddings": rotary, "attention_mask": blocked, "past_key_values": cache}
            attention = layer.self_attn(layer.input_layernorm(h), **named)[0]  # its keys and values go to the cache
            row.append(left)
            if not left:
                h = h + attention
                h = h + layer.mlp(layer.post_attention_layernorm(h))
            if many == 1 and not left and first - 1 <= number < DEPTH - 1:
                one, other = model.lm_head(inner.norm(h))[0, -1].double().softmax(-1).topk(2).values
                left, probes = bool(one - other >= threshold), probes + 1
        masks += [row] * many
        tokens.append(int(model.lm_head(inner.norm(h))[0, -1].argmax()))
        waiting = [len(tokens) - 1]
    return tokens[len(prompt) :], np.array(masks), cache, probes


@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.03, 1.0])
@pytest.mark.parametrize("first", [1, 3])
def test_early_exit_is_that_by_hand_and_copies_the_state(threshold, first):
    """Later tokens attend to keys and values that were computed from the state at which the token left."""
    model, cache = copy.deepcopy(deep("llama")), DynamicCache(config=deep("llama").config)
    model.generation_config.eos_token_id = None
    prompt = ids(1, 4)
    with torch.no_grad(), st.skip(model, st.EarlyExit(threshold, first=first, sink=0)) as ledger:
        out = model.generate(prompt, max_new_tokens=8, do_sample=False, pad_token_id=0, past_key_values=cache)
    with torch.no_grad():
        text, mask, expected, probes = exit_by_hand(model, prompt[0].tolist(), 8, threshold, first)
    assert out[0, 4:].tolist() == text and ledger.probes == probes
    assert np.array_equal(ledger.skipped, mask) and np.array_equal(ledger.dropped, mask)
    for ours, theirs in zip(cache.layers, expected.layers, strict=True):
        torch.testing.assert_close(ours.keys, theirs.keys, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.values, theirs.values, rtol=1e-4, atol=1e-5)
    assert mask[4:, first:].all() or threshold > 0
    assert not mask.any() or threshold < 1


@pytest.mark.parametrize("first", [1, 3])
def test_tokens_leave_behind_different_layers(first):
    """Else the test above would compare nothing but static choices."""
    model = deep("llama")
    with torch.no_grad():
        _, mask, *_ = exit_by_hand(model, ids(1, 4)[0].tolist(), 8, 0.01, first)
    assert len({tuple(row) for row in mask[4:].tolist()}) > 1


def test_early_logits_are_read_each_time():
    model, policy = deep("llama"), st.EarlyExit(0.0, first=2, sink=0)
    ledger = st.generate(model, Words(), "a b c", policy=policy, max_new_tokens=5, progress=False).ledger
    layers = [block.layer for block in find_blocks(model)]
    parts = [(one.mlp, one.post_attention_layernorm, one.self_attn.q_proj, one.self_attn.o_proj) for one in layers[2:]]
    left = sum(parameter.numel() for own in parts for part in own for parameter in part.parameters())
    dense = sum(parameter.numel() for parameter in model.parameters()) - VOCABULARY * 32
    assert ledger.ideal == pytest.approx(dense / (dense - left + VOCABULARY * 32 + 32))
    assert ledger.probes == len(ledger.tokens) - 3


def test_the_limit_falls_as_the_paper_says():
    policy = st.EarlyExit(0.8, decay=4.0, length=10)
    expected = [0.9 * 0.8 + 0.1 * 0.8 * np.exp(-4.0 * n / 10) for n in range(12)]
    np.testing.assert_allclose(policy.limits(np.arange(12)), expected)
    assert st.EarlyExit(0.8).limits(np.arange(3)).tolist() == [0.8] * 3


def test_early_exit_replays_given_confidences():
    trace, policy = traces.trace(sequences=1, length=6, prefill=2, layers=4), st.EarlyExit(0.5, sink=0)
    confidence = np.full((6, 4), 0.1, np.float32)
    confidence[3, 1:], confidence[4, 0], confidence[5, 3] = 0.5, 0.9, 0.9
    found = st.replay(policy, trace, confidence=confidence)
    expected = np.zeros((6, 4), bool)
    expected[3, 2:], expected[4, 1:] = True, True
    assert np.array_equal(found.skipped, expected) and np.array_equal(found.dropped, expected)
    with pytest.raises(
        ValueError, match=r"^expected confidence= beside the trace for 'early exit, confidence 0.5, sink"
    ):
        st.replay(policy, trace)


def test_logits_that_are_changed_behind_the_head_are_refused():
    expected = (
        "expected a model whose logits its last norm and its output embedding make of the residual stream, but those "
        "of Gemma2ForCausalLM ('gemma2') are changed on the way, as by scaling or capping, so that early logits are "
        "not known; leave out layers that are known before the pass, as StaticLayers, SkipDecode and UnifiedLayers do"
    )
    model = build("gemma2", final_logit_softcapping=2.0)
    with pytest.raises(UnsupportedModel, match=sentence(expected)), st.skip(model, st.EarlyExit(0.5)):
        pass


# --- kept, named, refused -----------------------------------------------------------------------------------------


def test_every_one_comes_back_from_json_and_from_words(tmp_path):
    legends = [
        "static removal, layers 1, 3, sink 1",
        "static attention, layers 0, 2, 4, sink 1",
        "random layers, 40%, sink 1, seed 2",
        "SkipDecode, 4 to 2 layers over 6 positions, sink 1",
        "unified skipping, 1.7x, decode only, sink 1",
        "early exit, confidence 0.01, first 2, sink 1",
    ]
    assert [policy.describe() for policy in POLICIES.values()] == legends
    for policy in POLICIES.values():
        again = from_json(policy.to_json())
        assert again == policy and hash(again) == hash(policy)
        st.policies.save(policy, tmp_path / "rule.json")
        assert read_policy(str(tmp_path / "rule.json")) == policy
    assert from_words("staticlayers:layers=1+3,sink=1") == POLICIES["removed"]
    assert from_words("skipdecode:most=4,least=2,length=6,sink=1") == POLICIES["budget"]


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("bloom", "what attention and FFN return is not all that is added to the residual stream"),
        ("gemma4_text", "what attention and FFN return is not all that is added to the residual stream"),
    ],
)
def test_a_family_whose_layers_cannot_be_left_out_is_refused(family, reason):
    model = build(family)
    before, kind = forwards_and_hooks(model), type(model).__name__
    expected = (
        f"expected decoder layers whose attention can be left out by itself, but in layer 0 of {kind} ({family!r}) "
        f"{reason}; leave out feed-forward blocks alone, as FFNSkip, StaticFFN and RandomFFN do"
    )
    with pytest.raises(UnsupportedModel, match=sentence(expected)), st.skip(model, st.StaticLayers((1,))):
        pass
    assert forwards_and_hooks(model) == before


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda: st.StaticLayers.fit(traces.trace(), count=1),
            "expected a trace with the distances of the whole layer, but this one has none; record it with "
            "also=('block',)",
        ),
        (
            lambda: st.StaticAttention.fit(traces.trace(), count=1),
            "expected a trace with the distances of the attention sublayer, but this one has none; record it with "
            "also=('attention',)",
        ),
        (
            lambda: st.StaticLayers((1,), action=Narrow(0.5, Arrays({}), "made")),
            "expected StaticLayers without an action, since it leaves out more than feed-forward blocks, got one to "
            "narrow to 50%; give the action to a policy of these, such as StaticFFN",
        ),
        (
            lambda: st.StaticAttention(3),
            "expected layers of StaticAttention to be a list of whole numbers, got 3; write one as (3,)",
        ),
        (
            lambda: st.RandomLayers(1.5),
            "expected a ratio in [0, 1) and cold regions of at least 0 layers, got 1.5, 0 and 0; ratio 0.25 skips a "
            "quarter of all layers",
        ),
        (
            lambda: st.SkipDecode(2, 3, 8),
            "expected a budget of layers that falls from most to at least 1 over some positions, got most=2, least=3 "
            "and length=8; correct them",
        ),
        (
            lambda: st.SkipDecode(9, 3, 8).check(8),
            "expected a budget of at most 8 layers, which is all of the model's, got most=9; make it smaller",
        ),
        (
            lambda: st.UnifiedLayers(0.5),
            "expected a speed-up from 1, which leaves nothing out, got 0.5; 1.5 is a third",
        ),
        (
            lambda: st.UnifiedLayers(6.0).check(8),
            "expected a speed-up that leaves the first and the last of 8 layers, got 6.0; make it smaller",
        ),
        (
            lambda: st.EarlyExit(1.5),
            "expected a threshold in [0, 1], decay from 0, and first and length from 1, got 1.5, 0.0, 1 and 1; correct "
            "them",
        ),
        (
            lambda: st.EarlyExit(0.5, first=8).check(8),
            "expected layers to leave out, but first=8 lets all 8 run; make it smaller",
        ),
        (
            lambda: st.ablation.sleb(deep("llama"), Words(), TEXTS, count=4, progress=False),
            "expected to choose between 0 and 3 layers, since the first and the last stay, got 4; choose fewer",
        ),
        (
            lambda: st.ablation.sleb(deep("llama"), Words(), TEXTS, count=1, sink=7, progress=False),
            "expected texts with tokens to predict past the attention sink, which is the first 7 positions of each, "
            "but the longest has 8; give longer texts, or a smaller sink",
        ),
    ],
)
def test_bad_input_is_said(make, expected):
    with pytest.raises(ValueError, match=sentence(expected)):
        make()
