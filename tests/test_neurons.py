"""Whole neurons taken out: the model is smaller, its outputs are those of the rest, and plain transformers loads it."""

import copy
import logging
import re

import pytest
import torch
from transformers import AutoModelForCausalLM

import saturation as st
from saturation.anatomy import UnsupportedModel, feedforwards
from saturation.pruning import find_matrices, prune
from saturation.pruning.neurons import ActivityRecorder, chosen
from tests.families import FAMILIES, INNER, LAYERS, build
from tests.test_pruning import ROWS, hooks_of, refused

WHOLE = [family for family in FAMILIES if family not in ("mixtral", "granitemoeshared")]  # experts share tensors


def made(family="llama", **changed):
    return copy.deepcopy(build(family, **changed))


def logits(model, row=ROWS[0]):
    with torch.no_grad():
        return model(torch.tensor([row])).logits


# ------------------------------------------------------------------------------------------------ what a neuron is


@pytest.mark.parametrize("family", WHOLE)
def test_every_family_is_a_sum_over_neurons(family):
    model = build(family)
    blocks = feedforwards(model, find_matrices(model))
    width = 4 * 32 if family in ("bloom", "falcon") else INNER
    assert [one.width for one in blocks] == [width] * LAYERS and not hooks_of(model)


@pytest.mark.parametrize("family", WHOLE)
@pytest.mark.parametrize("widths", ["one", "ranked"])
def test_what_is_left_is_the_model_with_those_neurons_mute(family, widths):
    """The same neurons made mute in a copy, by zeros in the columns that read them."""
    model, mute = made(family), made(family)
    old = [one.down.weight.clone() for one in feedforwards(mute, find_matrices(mute))]
    report = prune(model, calibration=ROWS, method="neurons", sparsity=0.4, widths=widths, mean=False)
    new, blocks = find_matrices(model), feedforwards(mute, find_matrices(mute))
    for one, before, layer in zip(blocks, old, new, strict=True):
        after = next(matrix.weight for matrix in layer if matrix.name == one.down.name)
        kept = (before.T[:, None] == after.T[None]).all(-1).any(1)  # [neuron]
        one.down.weight[:, ~kept] = 0
        assert int(kept.sum()) == after.shape[1] < before.shape[1] or widths == "ranked"
    torch.testing.assert_close(logits(model), logits(mute), rtol=1e-4, atol=1e-4)
    gone = report.table["width"] - report.table["kept"]
    assert report.sparsity == pytest.approx(gone.sum() / report.table["width"].sum())
    assert gone.sum() == (LAYERS * int(0.4 * one.width) if widths == "one" else int(0.4 * LAYERS * one.width))


def test_the_lowest_scores_go():
    scores = [torch.tensor([5.0, 1.0, 2.0, 9.0]), torch.tensor([0.5, 0.7, 0.6, 0.1])]
    assert [kept.tolist() for kept in chosen(scores, 0.5, "one")] == [[0, 3], [1, 2]]
    assert [kept.tolist() for kept in chosen(scores, 0.5, "ranked")] == [[0, 1, 2, 3], [1]]
    assert [kept.tolist() for kept in chosen(scores, 0.25, "ranked")] == [[0, 1, 2, 3], [1, 2]]


# ------------------------------------------------------------------------------------------------ scores


@pytest.fixture(scope="module")
def heard():
    """What the neurons of a llama do on padded texts, and the inputs of its down projections, token by token."""
    model = made()
    blocks = feedforwards(model, find_matrices(model))
    found = {}
    for size in (6, 1):
        listening = ActivityRecorder(model, blocks, fisher=False)
        for begin in range(0, len(ROWS), size):
            listening.read(ROWS[begin : begin + size])
        found[size] = listening.found
    return model, blocks, found


def test_padding_is_never_counted(heard):
    _, _, found = heard
    for one, other in zip(found[6], found[1], strict=True):
        assert one.tokens == other.tokens == sum(map(len, ROWS))
        torch.testing.assert_close(one.squares, other.squares, rtol=1e-4, atol=1e-9)
        torch.testing.assert_close(one.sums, other.sums, rtol=1e-4, atol=1e-6)
        assert one.stream == pytest.approx(other.stream, rel=1e-5)


def test_energy_is_that_of_the_neurons_own_output(heard):
    model, blocks, found = heard
    one, inputs, streams = blocks[1], [], []
    hooks = [
        one.down.module.register_forward_pre_hook(lambda part, args: inputs.append(args[0][0])),
        model.model.layers[1].post_attention_layernorm.register_forward_pre_hook(
            lambda part, args: streams.append(args[0][0])
        ),
    ]
    for row in ROWS:
        logits(model, row)
    for hook in hooks:
        hook.remove()
    a, h = torch.cat(inputs).double(), torch.cat(streams).double()
    own = torch.stack([(a[:, [j]] * one.down.weight[:, j].double()).square().sum(1).mean() for j in range(one.width)])
    torch.testing.assert_close(found[1][1].score(one, "energy"), own, rtol=1e-4, atol=1e-9)
    stream = h.square().sum(1).mean()
    torch.testing.assert_close(found[1][1].score(one, "relative"), own / stream.sqrt(), rtol=1e-4, atol=1e-9)


def test_fisher_is_the_mean_square_of_activation_times_gradient():
    """Against one neuron's gate: the derivative of the loss by a factor on each token's activation is a * g."""
    model = made()
    blocks = feedforwards(model, find_matrices(model))
    listening = ActivityRecorder(model, blocks, fisher=True)
    listening.read([ROWS[0]])
    assert not any(parameter.grad is not None for parameter in model.parameters())
    chances = logits(model)[0].float().softmax(-1)
    labels = torch.multinomial(chances, 1, generator=torch.Generator().manual_seed(0))[:, 0]
    factors = torch.ones(len(ROWS[0]), blocks[1].width, requires_grad=True)
    hook = blocks[1].down.module.register_forward_pre_hook(lambda part, args: (args[0] * factors,))
    given = model(torch.tensor([ROWS[0]])).logits[0]
    torch.nn.functional.cross_entropy(given, labels, reduction="sum").backward()
    hook.remove()
    expected = factors.grad.double().square().sum(0)
    torch.testing.assert_close(listening.found[1].fisher, expected, rtol=1e-3, atol=1e-9)


# ------------------------------------------------------------------------------------------------ the mean of what goes


@pytest.mark.parametrize("family", ["gpt2", "opt", "llama", "qwen2"])
def test_the_mean_of_what_goes_is_added(family):
    """With every text the same single token, what goes is its mean, so that nothing is lost."""
    model, dense = made(family), made(family)
    row = [[5]]
    prune(model, calibration=row, method="neurons", sparsity=0.5, widths="one", mean=True)
    assert feedforwards(model, find_matrices(model))[0].width < INNER
    torch.testing.assert_close(logits(model, row[0]), logits(dense, row[0]), rtol=1e-3, atol=1e-3)


def test_a_family_without_a_place_for_the_mean_says_so(caplog):
    with caplog.at_level(logging.INFO):
        report = prune(made("qwen2"), calibration=ROWS, method="neurons", sparsity=0.2, widths="one")
    assert report.notes == ("qwen2 has no bias in its feed-forward blocks: the mean of what went is left out",)
    assert report.notes[0] in caplog.text
    report = prune(made("qwen2"), calibration=ROWS, method="neurons", sparsity=0.2, widths="one", mean=True)
    assert report.notes == (
        "qwen2 has no bias in its feed-forward blocks: the mean of what went is kept as one that transformers leaves "
        "out when it loads the model",
    )


# ------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "mistral", "phi3", "gpt_neox"])
def test_one_width_is_an_ordinary_checkpoint(family, tmp_path):
    model = made(family)
    prune(model, calibration=ROWS, method="neurons", sparsity=0.3, widths="one")
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(logits(again), logits(model))
    assert sum(p.numel() for p in again.parameters()) < sum(p.numel() for p in build(family).parameters())


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral"])
def test_widths_per_layer_are_opened_by_load(family, tmp_path):
    demo, tokenizer = st.load("demo", device="cpu")
    model = copy.deepcopy(demo) if family == "llama" else made(family, vocab_size=len(tokenizer))
    report = prune(model, calibration=ROWS, method="neurons", sparsity=0.3)
    assert report.table["kept"].nunique() > 1 and "widths differ between layers" in report.notes[-1]
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, _ = st.load(tmp_path, device="cpu")
    assert torch.equal(logits(again), logits(model))
    assert [one.width for one in feedforwards(again, find_matrices(again))] == report.table["kept"].tolist()


def test_a_checkpoint_of_other_shapes_is_refused_as_before(tmp_path):
    demo, tokenizer = st.load("demo", device="cpu")
    model = copy.deepcopy(demo)
    prune(model, calibration=ROWS, method="neurons", sparsity=0.3)
    path = next(iter(model.config.matrix_shapes))
    model.config.matrix_shapes[path][0] += 1
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(OSError, match=rf"1 are missing or of another shape .* such as {re.escape(path)}\.weight"):
        st.load(tmp_path, device="cpu")


def test_a_narrow_model_is_watched_and_skipped_like_any_other():
    model, tokenizer = st.load("demo", device="cpu")
    model = copy.deepcopy(model)
    prune(model, calibration=ROWS, method="neurons", sparsity=0.3)
    runs = st.generate(model, tokenizer, "Question:", policy=st.StaticFFN(layers=(4, 5)), max_new_tokens=4)
    assert len(runs.ids[0]) == 4 and runs.ledger is not None


# ------------------------------------------------------------------------------------------------ what goes wrong


def test_an_interrupt_leaves_the_model_as_it_was(monkeypatch):
    model, dense = made(), made()
    calls = []

    def stopping(self, batch):
        calls.append(batch)
        raise KeyboardInterrupt

    monkeypatch.setattr(ActivityRecorder, "read", stopping)
    with pytest.raises(KeyboardInterrupt):
        prune(model, calibration=ROWS, method="neurons", sparsity=0.3)
    assert calls and not hooks_of(model)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), dense.parameters(), strict=True))


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"sparsity": "2:4"}, "expected a share of the neurons, such as 0.25, got '2:4'; give a number"),
        ({"widths": "two"}, "expected widths among ranked, one, got 'two'; choose one"),
        ({"score": "best"}, "expected a score among energy, relative, fisher, got 'best'; choose one"),
        (
            {"calibration": None},
            "expected calibration texts for 'neurons', got none; draw some with saturation.calibration.draw",
        ),
        ({"update": "none"}, "expected nothing that 'neurons' has no use for, got update='none'; leave it out"),
        (
            {"method": "wanda", "score": "energy"},
            "expected nothing that 'wanda' has no use for, got score='energy'; leave it out",
        ),
    ],
)
def test_bad_input_is_named(asked, sentence):
    with refused(sentence):
        prune(made(), **{"calibration": ROWS, "method": "neurons", "sparsity": 0.2, **asked})


def test_a_block_that_is_no_sum_over_neurons_is_refused():
    model = made()
    layer = model.model.layers[2].mlp
    layer.up_proj = torch.nn.Sequential(layer.up_proj, torch.nn.LayerNorm(INNER)).requires_grad_(False).eval()
    with pytest.raises(UnsupportedModel, match=r"in layer 2 of LlamaForCausalLM .*prune its weights one by one"):
        prune(model, calibration=ROWS, method="neurons", sparsity=0.2)


# ------------------------------------------------------------------------------------------------ the bundled model


def test_a_quarter_of_the_bundled_models_neurons_costs_next_to_nothing():
    """At most .0005 nats a token; whole blocks at the same bytes cost .0046 (METHODS.md has how)."""
    model, tokenizer = st.load("demo", device="cpu")
    pruned = copy.deepcopy(model)
    sample = st.calibration.draw(model, tokenizer, "mixture", tokens=4_096)
    report = prune(pruned, calibration=sample, method="neurons", sparsity=0.25)
    assert report.sparsity == pytest.approx(0.25, abs=1e-4)
    texts = [example.text for example in st.tasks.bundled("validation").head(60)]
    dense, narrow = (st.quality.losses(one, tokenizer, texts, progress=False) for one in (model, pruned))
    rise, low, high = st.quality.rise(narrow, dense)
    assert rise <= 0.0005, (rise, low, high)
