"""Recording: laws 1, 3, 7, 8 and 9, the exact measure, and every sentence for bad input."""

from __future__ import annotations

import copy
import re
from contextlib import nullcontext
from types import MethodType

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

import saturation as st
from saturation import similarity
from saturation.anatomy import UnsupportedModel, find_blocks, first
from saturation.recording import encode
from tests.families import FAMILIES, HIDDEN, LAYERS, TOKENS, VOCABULARY, build
from tests.tokens import FIRST, Words

EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)
ALSO = ("attention", "block", "naive", "magnitude")


def ids(batch: int = 1, seed: int = 1) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (batch, TOKENS), generator=torch.Generator().manual_seed(seed))


def forwards_and_hooks(model) -> list:
    return [
        (module, dict(vars(module)).get("forward"), dict(module._forward_hooks), dict(module._forward_pre_hooks))
        for module in model.modules()
    ]


def read(model, tokens: torch.Tensor, **named) -> st.Trace:
    with st.recording.watch(model, **named) as recorder, torch.no_grad():
        model(tokens)
    return recorder.trace()


def relative(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.max(np.abs(one - other) / np.abs(other)))


# --- laws ---------------------------------------------------------------------------------------------------------


@EVERY_FAMILY
def test_law_1_recording_changes_nothing(family):
    model = build(family)
    with torch.no_grad():
        before = model(ids(2)).logits
        with st.recording.watch(model, also=ALSO):
            during = model(ids(2)).logits
    assert torch.equal(before, during)


@EVERY_FAMILY
def test_law_1_holds_inside_generate(family):
    model = build(family)
    options = {"max_new_tokens": 5, "do_sample": False, "output_scores": True, "return_dict_in_generate": True}
    dense = model.generate(ids(), pad_token_id=0, **options)
    with st.recording.watch(model):
        watched = model.generate(ids(), pad_token_id=0, **options)
    assert torch.equal(dense.sequences, watched.sequences)
    assert all(torch.equal(a, b) for a, b in zip(dense.scores, watched.scores, strict=True))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_law_3_nothing_is_left_behind(error):
    model = build("falcon")
    before = forwards_and_hooks(model)
    with pytest.raises(error), st.recording.watch(model, also=ALSO), torch.no_grad():
        model(ids())
        raise error
    assert forwards_and_hooks(model) == before


@EVERY_FAMILY
def test_law_7_prefill_and_decode_equal_a_full_forward(family):
    model = build(family)
    full = read(model, ids(), start=4, also=("attention", "block"))
    with st.recording.watch(model, also=("attention", "block")) as recorder, torch.no_grad():
        out = model(ids()[:, :4], use_cache=True)
        for position in range(4, TOKENS):
            out = model(ids()[:, position : position + 1], past_key_values=out.past_key_values, use_cache=True)
    stepped = recorder.trace()
    assert stepped.tokens.equals(full.tokens)
    assert list(full.tokens.phase) == ["prefill"] * 4 + ["decode"] * (TOKENS - 4)
    for name in ("distance", "growth", "attention_distance", "block_growth"):
        np.testing.assert_allclose(getattr(stepped, name), getattr(full, name), rtol=2e-4, atol=1e-6)


def test_law_8_a_recorded_trace_survives_a_file(tmp_path):
    trace = read(build("qwen2"), ids(2), also=ALSO)
    trace.save(tmp_path / "trace.parquet")
    assert st.Trace.load(tmp_path / "trace.parquet").equals(trace)


@pytest.mark.parametrize("max_new_tokens", [0, 6])
@EVERY_FAMILY
def test_law_9_padding_batch_size_and_order_do_not_matter(family, max_new_tokens):
    model, words = build(family), Words()
    prompts = ["a b c", "d", "e f g h i j", "k l m n"]
    alone = [st.record(model, words, p, max_new_tokens=max_new_tokens, also=("attention", "block")) for p in prompts]
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        shuffled = [prompts[i] for i in order]
        for size in (2, 4):
            together = st.record(
                model, words, shuffled, max_new_tokens=max_new_tokens, batch_size=size, also=("attention", "block")
            )
            for place, number in enumerate(order):
                one = together.select(sequence=place)
                assert list(one.tokens.token_id) == list(alone[number].tokens.token_id)
                assert list(one.tokens.position) == list(alone[number].tokens.position)
                for name in ("distance", "growth", "attention_distance", "block_distance"):
                    np.testing.assert_allclose(getattr(one, name), getattr(alone[number], name), rtol=5e-4, atol=1e-6)


def test_a_static_cache_and_left_padding_record_the_same():
    model = build("llama")
    tokens, mask = st.recording.padded([[5, 6, 7], [8, 9, 10, 11, 12]], "left", "cpu")
    traces = []
    for options in ({}, {"cache_implementation": "static", "disable_compile": True}):
        with st.recording.watch(model) as recorder:
            model.generate(tokens, attention_mask=mask, max_new_tokens=4, do_sample=False, pad_token_id=0, **options)
        traces.append(recorder.trace())
    assert traces[0].tokens.equals(traces[1].tokens)
    np.testing.assert_allclose(traces[0].distance, traces[1].distance, rtol=1e-4)


def test_a_finished_sequence_leaves_no_rows():
    model = copy.deepcopy(build("llama"))
    tokens, mask = st.recording.padded([[5, 6, 7], [8, 9, 10, 11, 12]], "left", "cpu")
    free = model.generate(tokens, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=0)
    model.generation_config.eos_token_id = int(free[0, 5 + 2])  # the first sequence ends with its third new token
    with st.recording.watch(model) as recorder:
        model.generate(tokens, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=0)
    counts = recorder.trace().tokens.groupby("sequence").size()
    assert counts[0] == 3 + 2 and counts[1] > counts[0]


def test_another_thread_is_not_recorded():
    from threading import Thread

    model = build("llama")
    with st.recording.watch(model) as recorder, torch.no_grad():
        model(ids())
        thread = Thread(target=lambda: model(ids(3)))
        thread.start()
        thread.join()
    assert len(recorder.trace()) == TOKENS


# --- the measure --------------------------------------------------------------------------------------------------


def by_hand(model, tokens: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Distance and growth of a LLaMA, [token, layer], in float64 from the equation, on float32 activations."""
    inner = model.model
    h = inner.embed_tokens(tokens)
    places = torch.arange(tokens.shape[1])[None]
    rotary = inner.rotary_emb(h, places)
    blocked = torch.full((tokens.shape[1],) * 2, float("-inf")).triu(1)[None, None]
    distances, growths = [], []
    for layer in inner.layers:
        h = h + layer.self_attn(layer.input_layernorm(h), position_embeddings=rotary, attention_mask=blocked)[0]
        f = layer.mlp(layer.post_attention_layernorm(h))
        x, y = h[0].double(), h[0].double() + f[0].double()
        distances.append(1 - (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1)))
        growths.append(f[0].double().norm(dim=-1) / x.norm(dim=-1))
        h = h + f
    return torch.stack(distances, -1).numpy(), torch.stack(growths, -1).numpy()


@pytest.mark.parametrize("damping", [1.0, 0.1, 0.02])
def test_agrees_with_the_equation_in_float64(damping):
    model = copy.deepcopy(build("llama"))
    for layer in model.model.layers:
        layer.mlp.down_proj.weight.data *= damping
    model.set_attn_implementation("eager")
    with torch.no_grad():
        distance, growth = by_hand(model, ids())
    trace = read(model, ids())
    if damping == 0.02:
        assert distance.max() < 1e-3 and np.median(distance) < 1.2e-4  # the cosine is .9999 here
    assert relative(trace.distance, distance) < 1e-5
    assert relative(trace.growth, growth) < 1e-5


@pytest.mark.parametrize("angle", [1e-3, 1e-2, 0.3, 1.5, 3.0])
@pytest.mark.parametrize("length", [1e-3, 0.05, 1.0, 30.0])
def test_distance_keeps_its_digits(angle, length):
    x = torch.randn(257, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    side = torch.randn(257, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    side -= (side @ x) / (x @ x) * x
    f = length * x.norm() * (np.cos(angle) * x / x.norm() + np.sin(angle) * side / side.norm())
    x, f = x.float(), f.float()
    exact = similarity.distance(x.double(), f.double())
    assert similarity.distance(x, f).item() == pytest.approx(exact.item(), rel=1e-5)


def test_bfloat16_is_measured_in_float32():
    x, f = torch.randn(2, 300, generator=torch.Generator().manual_seed(2)).bfloat16()
    f = f * 0.01
    exact = similarity.distance(x.double(), f.double())
    assert similarity.distance(x, f).item() == pytest.approx(exact.item(), rel=1e-5)


def test_a_layer_that_reads_the_sum_on_is_measured_where_it_is_formed():
    """Gemma 4 goes on inside the layer, with inputs per layer, and scales the residual stream at its end."""
    model, seen = build("gemma4_text"), {}
    layer = model.model.layers[1]
    handles = [
        layer.pre_feedforward_layernorm.register_forward_hook(lambda m, a, o: seen.update(x=a[0].double())),
        layer.post_feedforward_layernorm.register_forward_hook(lambda m, a, o: seen.update(f=o.double())),
    ]
    try:
        trace = read(model, ids())
    finally:
        for handle in handles:
            handle.remove()
    expected = 1 - torch.cosine_similarity(seen["x"], seen["x"] + seen["f"], dim=-1)[0]
    np.testing.assert_allclose(trace.distance[:, 1], expected.numpy(), rtol=1e-5)
    assert float(layer.layer_scalar) != 1


def test_layers_that_share_keys_read_the_whole_prompt_in_our_loop():
    """transformers leaves all but the last token out of them in prefill: then the model's generate is refused."""
    model = build("gemma4_text", num_kv_shared_layers=1)
    trace = st.record(model, Words(), ["a b c", "d e f g h"], max_new_tokens=4)
    assert trace.distance.shape == (len(trace), LAYERS) and np.isfinite(trace.distance).all()
    runs = st.generate(model, Words(), ["a b c", "d e f g h"], policy=st.StaticFFN((1,)), max_new_tokens=4)
    assert runs.ledger.skipped.any()
    expected = (
        "expected every feed-forward block to read all 7 tokens of a pass at once, but that of layer 2 reads 1; if the "
        "model leaves out tokens whose logits are not asked for, ask for all (logits_to_keep=0, which generate takes "
        "too) or use saturation.record and saturation.generate; if it reads in chunks, load it with "
        "chunk_size_feed_forward=0"
    )
    before = forwards_and_hooks(model)
    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
    for entered in (lambda: st.recording.watch(model), lambda: st.skip(model, st.StaticFFN((2,)))):
        with pytest.raises(ValueError, match=sentence(expected)), entered():
            model.generate(ids(), **options)
        assert forwards_and_hooks(model) == before
        with entered():
            model.generate(ids(), logits_to_keep=0, **options)
    with st.skip(model, st.StaticFFN((1,))) as ledger:  # the layers before them have the whole prompt
        model.generate(ids(), **options)
    assert ledger.skipped.any()


def test_large_and_small_passes_measure_the_same(monkeypatch):
    model = build("phi")
    small = read(model, ids(2), also=ALSO)
    monkeypatch.setattr("saturation.recording.watching.LARGE", 1)
    large = read(model, ids(2), also=ALSO)
    for name in ("distance", "growth", "attention_distance", "block_distance", "naive_cosine", "magnitude", "median"):
        np.testing.assert_allclose(getattr(small, name), getattr(large, name), rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "falcon", "mixtral"])
@pytest.mark.parametrize("policy", [None, st.StaticFFN((1,), sink=2)])
def test_magnitudes_are_of_the_stream_behind_each_layer(family, policy):
    model, expected = build(family), {}
    layers = [block.layer for block in st.anatomy.find_blocks(model)]

    def keep(number):
        return lambda module, args, output: expected.update({number: first(output)})

    handles = [layer.register_forward_hook(keep(number)) for number, layer in enumerate(layers)]
    rows, mask = st.recording.padded([[5, 6, 7, 8, 9], [8, 9, 10]], "right", "cpu")
    skipping = st.skip(model, policy) if policy else nullcontext()
    try:
        with skipping, st.recording.watch(model, also=("magnitude",)) as recorder, torch.no_grad():
            model(input_ids=rows, attention_mask=mask)
    finally:
        for handle in handles:
            handle.remove()
    trace, real = recorder.trace(), mask.bool()
    assert trace.skipped.any() == (policy is not None) and len(trace) == 8
    for number, hidden in expected.items():
        size = hidden.abs()[real]  # [token, hidden]
        np.testing.assert_allclose(trace.magnitude[:, number], size.amax(-1), rtol=1e-6)
        np.testing.assert_allclose(trace.median[:, number], size.median(-1).values, rtol=1e-6)


def test_the_classic_mistake_is_recorded_as_such():
    model = build("llama")
    trace, layer = read(model, ids(), also=("naive",)), model.model.layers[1]
    seen = {}
    handle = layer.mlp.register_forward_hook(lambda m, a, o: seen.update(x=a[0], f=o))
    try:
        read(model, ids())
    finally:
        handle.remove()
    expected = torch.cosine_similarity(seen["x"], seen["f"], dim=-1)[0]
    np.testing.assert_allclose(trace.naive_cosine[:, 1], expected.numpy(), rtol=1e-4, atol=1e-6)


def test_pairs_are_read_with_the_answer_as_decode():
    trace = st.record(build("llama"), Words(), [("a b c", " d e"), ("f", " g")])
    assert list(trace.tokens.phase) == ["prefill"] * 3 + ["decode"] * 2 + ["prefill", "decode"]
    assert list(trace.tokens.text) == [" a", " b", " c", " d", " e", " f", " g"]
    assert trace.distance.shape == (7, LAYERS)


def test_a_tuple_of_prompts_to_write_after_is_no_pair():
    trace = st.record(build("llama"), Words(), ("a b", "c"), max_new_tokens=2)
    assert trace.tokens.sequence.nunique() == 2


def test_an_answer_is_read_as_in_running_text(stories):
    """SentencePiece begins a text with a space; one that goes on has none of its own."""
    model, tokenizer = stories[:2]
    whole = tokenizer("Once there was a cat").input_ids
    (ids,), (start,) = encode(model, tokenizer, [("Once there was a", " cat")])
    assert ids == whole and start == len(tokenizer("Once there was a").input_ids)
    (ids,), _ = encode(model, tokenizer, [("Once there was a ca", "t")])
    apart = tokenizer("t", add_special_tokens=False).input_ids
    assert ids == tokenizer("Once there was a ca").input_ids + apart, "where they would run together"


# --- bad input ----------------------------------------------------------------------------------------------------


def sentence(text: str) -> str:
    return "^" + re.escape(text) + "$"


def test_an_encoder_is_refused():
    model = AutoModelForMaskedLM.from_config(
        AutoConfig.for_model("bert", hidden_size=HIDDEN, num_attention_heads=4, num_hidden_layers=2)
    ).eval()
    with pytest.raises(
        UnsupportedModel,
        match=sentence(
            "expected a causal language model (a decoder, as AutoModelForCausalLM loads it), got 'bert' "
            "(BertForMaskedLM), which does not generate token by token from its own past; "
            "load a decoder such as a Llama, Qwen or GPT model"
        ),
    ):
        st.record(model, Words(), "a b")


def test_a_model_without_decoder_layers_is_refused():
    model = copy.deepcopy(build("llama"))
    model.config.num_hidden_layers = 5
    with pytest.raises(
        UnsupportedModel,
        match=sentence(
            "expected a stack of 5 decoder layers (one nn.ModuleList, as config.num_hidden_layers says), found none "
            "in LlamaForCausalLM ('llama'); this model cannot be watched or skipped"
        ),
    ):
        find_blocks(model)


def reworked(ending):
    """A llama whose layers end otherwise: `ending` takes the layer, the residual stream h and the FFN's output."""

    def forward(self, hidden_states, **named):
        h = hidden_states + self.self_attn(hidden_states=self.input_layernorm(hidden_states), **named)[0]
        return ending(self, h, self.mlp(self.post_attention_layernorm(h)))

    model = copy.deepcopy(build("llama"))
    for layer in model.model.layers:
        layer.more, layer.norm = torch.nn.Linear(HIDDEN, HIDDEN), torch.nn.LayerNorm(HIDDEN)
        layer.forward = MethodType(forward, layer)
    return model.eval()


def test_a_layer_that_reads_the_sum_on_is_accepted_where_it_carries_it_on():
    blocks = find_blocks(reworked(lambda layer, h, f: (total := h + 0.5 * f) + layer.more(layer.norm(total))))
    assert [(round(block.multiplier, 5), block.parallel) for block in blocks] == [(0.5, False)] * LAYERS


@pytest.mark.parametrize(
    "ending",
    [
        lambda layer, h, f: layer.norm(h + f),
        lambda layer, h, f: h + layer.more(layer.norm(h + f)),
        lambda layer, h, f: layer.more(h + f) + 3 * f * f,
        lambda layer, h, f: (layer.norm(h + f), h + f * layer.more(h).sigmoid())[1],
    ],
    ids=["normed", "only read", "used again", "gated"],
)
def test_a_layer_that_does_not_carry_the_sum_on_is_refused(ending):
    expected = (
        "expected decoder layers whose feed-forward output is added to the residual stream, but in layer 0 of "
        "LlamaForCausalLM ('llama'): its feed-forward output is not simply added to the residual stream; this family "
        "is not supported"
    )
    with pytest.raises(UnsupportedModel, match=sentence(expected)):
        find_blocks(reworked(ending))


def test_a_device_that_is_full_is_no_unsupported_family():
    model, calls = copy.deepcopy(build("llama")), []
    layer = model.model.layers[1]
    own = layer.forward

    def full(*args, **named):
        calls.append(1)
        if len(calls) > 2:  # by itself
            raise torch.OutOfMemoryError("out of memory")
        return own(*args, **named)

    layer.forward = full
    with pytest.raises(torch.OutOfMemoryError, match=sentence("out of memory")):
        find_blocks(model)


def test_a_base_model_without_a_head_is_refused():
    with pytest.raises(UnsupportedModel, match="got 'llama' \\(LlamaModel\\)"):
        find_blocks(AutoModel.from_config(build("llama").config).eval())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_model_that_sees_later_tokens_is_refused(dtype):
    from transformers import AutoModelForCausalLM

    config = AutoConfig.for_model(
        "megatron-bert", hidden_size=HIDDEN, num_attention_heads=4, num_hidden_layers=2, vocab_size=VOCABULARY
    )
    with pytest.raises(
        UnsupportedModel,
        match=sentence(
            "expected a causal language model, whose tokens do not depend on later ones, but in "
            "MegatronBertForCausalLM ('megatron-bert') they do, as in an encoder; load it as a decoder "
            "(is_decoder=True where its configuration knows that), or another model"
        ),
    ):
        find_blocks(AutoModelForCausalLM.from_config(config, dtype=dtype).eval())


def test_a_model_that_lost_layers_is_looked_at_anew():
    model = copy.deepcopy(build("llama"))
    assert len(find_blocks(model)) == LAYERS
    model.model.layers = model.model.layers[:2]
    model.config.num_hidden_layers = 2
    assert len(find_blocks(model)) == 2 and read(model, ids()).layers == 2


def test_training_mode_is_refused():
    model = copy.deepcopy(build("llama"))
    find_blocks(model)  # what is known does not let it pass
    model.train()
    with pytest.raises(
        ValueError,
        match=sentence(
            "expected a model in eval mode, got one in training mode, where dropout would make every measurement "
            "random; call model.eval() first"
        ),
    ):
        find_blocks(model)


def test_a_character_in_several_tokens_is_the_text_of_the_last():
    model, tokenizer = st.load("demo")
    prompts = ["مرحبا بالعالم", "日本語のテキスト", "a 👩‍🚀 b", "plain words"]
    tokens = st.record(model, tokenizer, prompts, max_new_tokens=0, progress=False).tokens
    for number, prompt in enumerate(prompts):
        ours = tokens[tokens["sequence"] == number]
        assert "".join(ours["text"][1:]).strip() == prompt and not ours["text"].str.contains("\ufffd").any()
    arabic = tokens[tokens["sequence"] == 0]["text"].tolist()
    assert arabic[1:5] == ["", "م", "", "ر"]  # two bytes each


@pytest.mark.parametrize(
    ("prompts", "options", "expected"),
    [
        ([], {}, "expected at least one prompt, got none; pass a text or a list of texts"),
        (["a", "  "], {}, "expected prompts with text in them, but prompt 2 is empty; remove it"),
        (
            ["a", ("b", "c\ud83d d")],
            {},
            "expected prompts of text that UTF-8 can hold, but prompt 2 has half of a character, '\\ud83d', at place "
            "1; remove it",
        ),
        (
            ["a", "b c d"],
            {"max_new_tokens": 62},
            "expected prompts that fit into the model's context of 64 tokens, but prompt 2 has 3 tokens and 62 new "
            "ones are asked for; shorten it or ask for fewer",
        ),
        (
            "a",
            {"chat": True},
            "expected a tokenizer with a chat template for chat=True, got one without; use chat=False and write the "
            "prompt in the form the model was trained on",
        ),
        (
            "a",
            {"also": ("ffn",)},
            "expected also= to name any of attention, block, naive, magnitude, got 'ffn'; leave it out",
        ),
        (
            "a",
            {"batch_size": 0},
            "expected whole numbers max_new_tokens >= 0 and batch_size >= 1, got 0 and 0; 0 new tokens reads the texts "
            "as they are",
        ),
        (
            [("a", " b")],
            {"max_new_tokens": 3},
            "expected plain prompts with max_new_tokens > 0, got a pair (prompt, answer); set max_new_tokens=0 to "
            "read given answers",
        ),
        (
            (pair for pair in [("a", " b")]),
            {"max_new_tokens": 3},
            "expected plain prompts with max_new_tokens > 0, got a pair (prompt, answer); set max_new_tokens=0 to "
            "read given answers",
        ),
        (
            "a b",
            {"max_new_tokens": 3, "start": 1},
            "expected plain prompts with max_new_tokens > 0, got start=1; set max_new_tokens=0 to read given answers",
        ),
        (
            ("a", "b"),
            {},
            "expected prompts in a list, got ('a', 'b'), which may be a pair (prompt, answer) or two prompts; write "
            "[(prompt, answer)] or [prompt, prompt]",
        ),
        *(
            (
                ["a", wrong],
                {},
                "expected prompts that are texts, lists of token ids or pairs of these, but prompt 2 is "
                f"{wrong!r}; correct it",
            )
            for wrong in (5, None, ["a", "b"], ("a", "b", "c"), ("a", 5))
        ),
    ],
)
def test_bad_prompts_and_options(prompts, options, expected):
    model = build("gpt2")
    before = forwards_and_hooks(model)
    with pytest.raises(ValueError, match=sentence(expected)):
        st.record(model, Words(), prompts, **options)
    assert forwards_and_hooks(model) == before


def test_non_finite_activations_are_named():
    model = copy.deepcopy(build("llama"))
    model.model.layers[1].mlp.down_proj.weight.data[0, 0] = float("inf")
    with pytest.raises(
        ValueError,
        match=sentence(
            "expected finite activations, but layer 1 of LlamaForCausalLM gives infinity or NaN for token 1 to 4 "
            "already; check its weights, and its dtype (float16 overflows where bfloat16 does not)"
        ),
    ):
        st.record(model, Words(), "a b c")


def test_a_non_finite_token_is_named():
    model = copy.deepcopy(build("llama"))
    model.get_input_embeddings().weight.data[FIRST + 2] = 1e30  # the word c
    with pytest.raises(ValueError, match=r"layer 0, token 2 \(sequence 0, position 2, ' c'\)"):
        st.record(model, Words(), "a b c d")


def test_an_interrupt_carries_the_partial_trace():
    model = build("llama")
    calls = []

    def stop(module, args, named):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    handle = model.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            st.record(model, Words(), ["a b", "c d e", "f"], batch_size=1)
    finally:
        handle.remove()
    trace = caught.value.trace
    assert list(trace.tokens.text) == [" a", " b", " c", " d", " e"]
    assert trace.provenance["complete"] is False


# --- an independent model, and independent numbers ----------------------------------------------------------------


def test_stories260k_agrees_with_published_facts(stories):
    model, tokenizer, texts = stories
    with st.recording.watch(model, start=0) as recorder, torch.no_grad():
        for text in texts:
            model(torch.tensor([tokenizer(text).input_ids[:256]]))
    trace = recorder.trace()
    measured = (1 - trace.distance.astype(np.float64)).mean(axis=0)
    np.testing.assert_allclose(measured, [0.8924, 0.8919, 0.9025, 0.9025, 0.8776], atol=2e-4)


def test_stories260k_writes_its_known_beginning(stories):
    model, tokenizer, _ = stories
    trace = st.record(model, tokenizer, "Once upon a time", max_new_tokens=40)
    expected = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
    assert expected in tokenizer.decode(trace.tokens.token_id, skip_special_tokens=True)
