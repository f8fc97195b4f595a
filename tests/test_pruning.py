"""Masks equal an independent reference, compensation equals naive arithmetic, padding is never counted."""

import copy
import logging
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

import saturation as st
from saturation.anatomy import UnsupportedModel, decoder_layers
from saturation.pruning import METHODS, Pattern, find_matrices, gather, prune
from saturation.pruning.masks import magnitude, wanda
from saturation.pruning.pruning import _Pruning
from saturation.pruning.weight_updates import least_squares, sparsegpt
from tests.families import VOCABULARY, build

WIDE = {"intermediate_size": 40}  # so that 4 and 8 divide every width
LLAMA, GROUPED = ("llama", {**WIDE, "num_key_value_heads": 4}), ("llama", WIDE)
GPT2 = ("gpt2", {"n_inner": 40})
MODELS = pytest.mark.parametrize("model", [LLAMA, GPT2, GROUPED], ids=["llama", "gpt2", "grouped"])
PATTERNS = pytest.mark.parametrize("sparsity", [0.5, 0.3, "2:4", "4:8"])


def made(given, dtype=torch.float64):
    """A tiny model of one's own, in double precision so that ties of rounding decide nothing."""
    family, changed = given
    return copy.deepcopy(build(family, **changed)).to(dtype)


def rows(*lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(3, VOCABULARY, size=length).tolist() for length in lengths]


ROWS = rows(12, 9, 12, 5, 7, 11)


def refused(sentence, error=ValueError):
    return pytest.raises(error, match="^" + re.escape(sentence) + "$")


# ------------------------------------------------------------------------------------------------ a reference, 30 lines


def lowest_are_dropped(score, sparsity):
    """Mask of one row of scores, or of a whole matrix laid out as one row."""
    keep = torch.ones_like(score, dtype=torch.bool)
    if isinstance(sparsity, str):
        n, m = map(int, sparsity.split(":"))
        for begin in range(0, len(score), m):
            keep[begin + score[begin : begin + m].argsort()[: m - n]] = False
    else:
        keep[score.argsort()[: int(len(score) * sparsity + 1e-9)]] = False
    return keep


def reference(model, texts, sparsity, method):
    """Masks of every matrix, one text at a time: hook the inputs, score, zero, run the block again."""
    masks = {}
    for index, layer in enumerate(decoder_layers(model)):
        maps = {name: part for name, part in layer.named_modules() if isinstance(part, nn.Linear | Conv1D)}
        inputs = {name: [] for name in maps}
        hooks = [
            part.register_forward_pre_hook(lambda part, args, own=inputs[name]: own.append(args[0][0]))
            for name, part in maps.items()
        ]
        with torch.no_grad():
            for text in texts:
                model(torch.tensor([text]))
        for hook in hooks:
            hook.remove()
        for name, part in maps.items():
            weight = part.weight.data.T if isinstance(part, Conv1D) else part.weight.data
            norms = torch.cat(inputs[name]).norm(dim=0) if method == "wanda" else 1.0
            score = weight.abs() * norms
            if method == "magnitude" and not isinstance(sparsity, str):
                mask = lowest_are_dropped(score.flatten(), sparsity).reshape(score.shape)
            else:
                mask = torch.stack([lowest_are_dropped(row, sparsity) for row in score])
            weight[~mask] = 0
            masks[f"{index}.{name}"] = mask.numpy()
    return masks


@MODELS
@PATTERNS
@pytest.mark.parametrize("method", ["magnitude", "wanda"])
def test_masks_equal_the_reference_exactly(model, sparsity, method):
    ours, theirs = made(model), made(model)
    report = prune(ours, calibration=ROWS, method=method, sparsity=sparsity, batch_size=4)
    masks = reference(theirs, ROWS, sparsity, method)
    assert set(report.packed) == set(masks)
    for name, mask in masks.items():
        assert (report.mask(name) == mask).all(), name
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


@MODELS
@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize(("kept", "of"), [(2, 4), (4, 8), (1, 4)])
def test_counts_are_exact_in_every_group(model, method, kept, of):
    report = prune(made(model), calibration=ROWS, method=method, sparsity=f"{kept}:{of}")
    for name in report.packed:
        mask = report.mask(name)
        assert (mask.reshape(len(mask), -1, of).sum(-1) == kept).all()
    assert report.sparsity == pytest.approx(1 - kept / of)


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.95])
def test_shares_are_exact(method, sparsity):
    model = made(GROUPED)
    report = prune(model, calibration=ROWS, method=method, sparsity=sparsity, columns=16)
    for matrix in (matrix for layer in find_matrices(model) for matrix in layer):
        mask, inputs = report.mask(matrix.key), matrix.weight.shape[1]
        gone = (~mask).sum()
        groups = {"magnitude": [mask.size], "wanda": [inputs] * len(mask)}.get(method) or [
            len(mask) * min(16, inputs - begin) for begin in range(0, inputs, 16)
        ]
        assert gone == sum(int(group * sparsity + 1e-9) for group in groups)
        assert ((matrix.weight == 0).numpy() == ~mask).all()


# ------------------------------------------------------------------------------------------------ making up for errors


def correlated(inputs=24, outputs=10, tokens=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(inputs, inputs, generator=generator, dtype=torch.float64) / inputs**0.5
    x = torch.randn(tokens, inputs, generator=generator, dtype=torch.float64) @ (mix + 0.3)
    return torch.randn(outputs, inputs, generator=generator, dtype=torch.float64), x


def hessian_of(x):
    return 2 / len(x) * x.T @ x


def loss(old, new, x):
    return float(((new - old) @ x.T).square().sum())


@pytest.mark.parametrize("sparsity", ["2:4", 0.4])
def test_one_block_equals_naive_brain_surgery_column_by_column(sparsity):
    """Optimal brain surgery with the inverse of what is left of the Hessian, computed anew for every column."""
    weight, x = correlated()
    hessian = hessian_of(x)
    hessian = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=torch.float64)
    inputs = weight.shape[1]
    inverses = [torch.linalg.inv(hessian[j:, j:]) for j in range(inputs)]
    naive, keep = weight.clone(), torch.ones_like(weight, dtype=torch.bool)
    saliency = torch.stack([weight[:, j] ** 2 / inverses[j][0, 0] for j in range(inputs)], dim=1)
    if sparsity == 0.4:
        keep.view(-1)[saliency.flatten().argsort()[: int(weight.numel() * 0.4)]] = False
    for j in range(inputs):
        if sparsity == "2:4" and j % 4 == 0:
            now = torch.stack([naive[:, k] ** 2 / inverses[k][0, 0] for k in range(j, j + 4)], dim=1)
            keep[:, j : j + 4].scatter_(1, now.argsort(dim=1)[:, :2], False)
        for i in range(len(naive)):
            if not keep[i, j]:
                naive[i, j:] -= naive[i, j] / inverses[j][0, 0] * inverses[j][0]
                naive[i, j] = 0
    ours, stays, _ = sparsegpt(weight, hessian_of(x), Pattern.read(sparsity), damping=0.01, columns=inputs)
    assert torch.equal(stays, keep)
    torch.testing.assert_close(ours, naive, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sparsity", [0.5, "2:4"])
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_errors_on_correlated_inputs(sparsity, seed):
    weight, x = correlated(inputs=32, seed=seed)
    pattern, hessian = Pattern.read(sparsity), hessian_of(x)
    compensated, stays, _ = sparsegpt(weight, hessian, pattern, damping=0.01)
    by_input, by_size = wanda(weight, x.norm(dim=0), pattern), magnitude(weight, pattern)
    ours = loss(weight, compensated, x)
    assert ours < loss(weight, weight * by_input, x) and ours < loss(weight, weight * by_size, x)
    for mask in (stays, by_input, by_size):
        solved, _ = least_squares(weight, hessian, mask, damping=0.0)
        obs, _, _ = sparsegpt(weight, hessian, pattern, damping=0.01, stays=mask)
        others = [weight * mask, obs, *([compensated] if mask is stays else [])]
        slope = (solved - weight) @ hessian  # of the error, [outputs, inputs]
        assert (solved[~mask] == 0).all() and slope[mask].abs().max() < 1e-8 < slope[~mask].abs().max()
        assert all(loss(weight, solved, x) < loss(weight, other, x) for other in others)


def test_on_inputs_without_correlation_all_are_magnitude():
    weight, _ = correlated(inputs=32)
    flat, norms = 3.0 * torch.eye(32, dtype=torch.float64), torch.full((32,), 7.0, dtype=torch.float64)
    half, four = Pattern.read(0.5), Pattern.read("2:4")
    assert torch.equal(wanda(weight, norms, half), magnitude(weight, half, group="row"))
    assert torch.equal(wanda(weight, norms, half, group="matrix"), magnitude(weight, half))
    assert torch.equal(wanda(weight, norms, four), magnitude(weight, four))
    new, stays, _ = sparsegpt(weight, flat, half, damping=0.01, columns=32)
    assert torch.equal(stays, magnitude(weight, half)) and torch.equal(new, weight * stays)
    new, stays, _ = sparsegpt(weight, flat, four, damping=0.01)
    assert torch.equal(stays, magnitude(weight, four)) and torch.equal(new, weight * stays)


@pytest.mark.parametrize("columns", [8, 12, 32])
def test_blocks_of_columns_hand_their_errors_on(columns):
    """With the mask given, how many columns are in a block changes nothing but rounding."""
    weight, x = correlated(inputs=32)
    mask = magnitude(weight, Pattern.read(0.5))
    whole, _, _ = sparsegpt(weight, hessian_of(x), Pattern.read(0.5), damping=0.01, columns=32, stays=mask)
    parted, _, _ = sparsegpt(weight, hessian_of(x), Pattern.read(0.5), damping=0.01, columns=columns, stays=mask)
    torch.testing.assert_close(parted, whole, rtol=1e-10, atol=1e-10)


def test_least_squares_of_a_model_has_the_least_error_of_all_updates():
    found = {
        update: prune(made(GROUPED), calibration=rows(*[12] * 20), sparsity=0.5, update=update).table
        for update in ("none", "sparsegpt", "least-squares")
    }
    first = {update: table[table["layer"] == 0]["error"].to_numpy() for update, table in found.items()}
    assert (first["least-squares"] < first["sparsegpt"]).all() and (first["sparsegpt"] < first["none"]).all()


# ------------------------------------------------------------------------------------------------ tokens


@MODELS
def test_padding_is_never_counted(model):
    padded, alone = (gather(made(model), ROWS, batch_size=size) for size in (6, 1))
    for key, one in padded.moments.items():
        assert one.tokens == alone.moments[key].tokens == sum(map(len, ROWS))
        torch.testing.assert_close(one.squares, alone.moments[key].squares, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(one.products, alone.moments[key].products, rtol=1e-9, atol=1e-12)


def test_matrices_that_read_the_same_share_their_statistics():
    moments = gather(made(GROUPED), ROWS).moments
    assert moments["1.self_attn.q_proj"] is moments["1.self_attn.v_proj"]
    assert moments["1.mlp.gate_proj"] is moments["1.mlp.up_proj"] is not moments["1.mlp.down_proj"]
    assert moments["1.self_attn.q_proj"] is not moments["1.self_attn.o_proj"]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "opt", "bloom", "gpt_neox", "falcon", "phi3", "gpt_neo"])
def test_walking_block_by_block_is_the_forward_pass(family):
    from saturation.pruning.layerwise import Walk

    model = build(family)
    walk = Walk(model, ROWS, 4)
    for index in range(len(walk.layers)):
        walk.step(index)
    streams = []
    hook = decoder_layers(model)[-1].register_forward_hook(
        lambda layer, args, output: streams.append(output[0] if isinstance(output, tuple) else output)
    )
    with torch.no_grad():
        for batch in walk.batches:
            for row in batch:
                model(torch.tensor([row]))
    hook.remove()
    walked = [stream[i, real[i]] for stream, real in zip(walk.hidden, walk.real, strict=True) for i in range(len(real))]
    for one, other in zip(walked, streams, strict=True):
        torch.testing.assert_close(one, other[0], rtol=1e-4, atol=1e-4)


def test_a_block_sees_what_the_pruned_blocks_before_it_give():
    texts, dense = prune(made(GROUPED), calibration=ROWS, sparsity=0.5), made(GROUPED)
    statistics = gather(dense, ROWS)
    once = [prune(copy.deepcopy(dense), calibration=statistics, sparsity=share) for share in (0.5, 0.2)]
    first, last = ([name for name in texts.packed if name.startswith(f"{layer}.")] for layer in (0, 2))
    assert all((once[0].mask(name) == texts.mask(name)).all() for name in first)
    assert not all((once[0].mask(name) == texts.mask(name)).all() for name in last)
    for name in once[0].packed:  # what is lowest of 20 % is lowest of 50 % too
        assert (once[0].mask(name) <= once[1].mask(name)).all()
    assert once[0].calibration["tokens"] == texts.calibration["tokens"] == sum(map(len, ROWS))


def test_texts_need_a_tokenizer_and_samples_tell_where_they_come_from():
    model, tokenizer = st.load("demo", device="cpu")
    model = copy.deepcopy(model)
    with pytest.raises(ValueError, match="expected calibration texts in a list, and tokenizer= with them"):
        prune(model, calibration=["Once."], sparsity=0.5)
    one = prune(copy.deepcopy(model), calibration=["Once upon a time."], tokenizer=tokenizer, sparsity=0.1)
    assert one.calibration == {"source": "texts", "tokens": len(tokenizer("Once upon a time.").input_ids)}
    sample = st.calibration.draw(model, tokenizer, "entries", tokens=400)
    report = prune(model, calibration=sample, sparsity="2:4")
    assert report.calibration == sample.about() and report.table["tokens"].eq(sample.tokens).all()
    assert model.config.pruning["calibration"]["digest"] == sample.digest


# ------------------------------------------------------------------------------------------------ reports and files


def test_a_report_counts_and_compares():
    one, again = (prune(made(GROUPED), calibration=ROWS, sparsity=0.5) for _ in range(2))
    other = prune(made(GROUPED), calibration=rows(30, 30, seed=9), sparsity=0.5)
    assert one.sparsity == pytest.approx(0.5) and 0 < one.error < 0.5
    assert one.overlap(again) == 1.0 and 0.4 < one.overlap(other) < 1.0
    assert one.overlap(other) == other.overlap(one)
    with refused(
        "expected a matrix such as 0.self_attn.q_proj, 0.self_attn.k_proj, 0.self_attn.v_proj, got 'x'; name one of "
        "these"
    ):
        one.mask("x")
    gpt = prune(made(GPT2), calibration=ROWS, sparsity=0.5)
    with refused("expected reports of the same matrices, got 21 and 12 masks; prune one model in two ways"):
        one.overlap(gpt)


def test_the_error_in_the_report_is_that_of_the_outputs():
    model, dense = made(GROUPED), made(GROUPED)
    inputs = []
    hook = dense.model.layers[0].mlp.down_proj.register_forward_pre_hook(lambda part, args: inputs.append(args[0][0]))
    with torch.no_grad():
        for row in ROWS:
            dense(torch.tensor([row]))
    hook.remove()
    table = prune(model, calibration=ROWS, sparsity=0.5).table.set_index(["layer", "matrix"])
    old, new = (m.model.layers[0].mlp.down_proj.weight.data for m in (dense, model))
    x = torch.cat(inputs)
    expected = loss(old, new, x) / float((old @ x.T).square().sum())
    assert table.loc[(0, "mlp.down_proj"), "error"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
def test_a_pruned_model_is_saved_and_loaded_by_transformers(method, tmp_path):
    from transformers import AutoModelForCausalLM

    model = made(GROUPED, torch.float32)
    prune(model, calibration=ROWS, method=method, sparsity="2:4")
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.tensor([ROWS[0]])
    with torch.no_grad():
        assert torch.equal(again(ids).logits, model(ids).logits)
    assert again.config.pruning["method"] == method and again.config.pruning["sparsity"] == "2:4"


def test_embeddings_head_norms_and_biases_stay():
    model, dense = made(GPT2), made(GPT2)
    prune(model, calibration=ROWS, sparsity=0.5)
    changed = {
        name
        for (name, one), other in zip(model.named_parameters(), dense.parameters(), strict=True)
        if not one.equal(other)
    }
    assert changed and all(re.search(r"h\.\d\.(attn|mlp)\.c_\w+\.weight$", name) for name in changed)


# ------------------------------------------------------------------------------------------------ what goes wrong


class Stop(KeyboardInterrupt):
    pass


def test_an_interrupt_says_how_far_it_is(monkeypatch, caplog):
    model, dense, block = made(GROUPED), made(GROUPED), _Pruning.block

    def stopping(self, layer, moments):
        if layer[0].layer == 1:
            raise Stop
        block(self, layer, moments)

    monkeypatch.setattr(_Pruning, "block", stopping)
    with pytest.raises(Stop) as stopped, caplog.at_level(logging.WARNING):
        prune(model, calibration=ROWS, sparsity=0.5)
    assert sorted(set(stopped.value.report.table["layer"])) == [0]
    assert "interrupted: 1 of 3 blocks are pruned, the others are as they were" in caplog.text
    for matrix, old in zip(find_matrices(model)[1], find_matrices(dense)[1], strict=True):
        assert torch.equal(matrix.weight, old.weight)
    assert not hasattr(model.config, "pruning") and not hooks_of(model)
    with st.skip(model, st.StaticFFN(layers=(1,))):
        pass


def test_an_interrupt_while_a_block_is_written_leaves_it_whole(monkeypatch):
    model, calls = made(GROUPED), []
    write = _Pruning._write

    def stopping(self, found):
        calls.append(len(found))
        if len(calls) == 1:
            found[0].matrix.write(found[0].weight)
            raise Stop
        write(self, found)

    monkeypatch.setattr(_Pruning, "_write", stopping)
    with pytest.raises(Stop) as stopped:
        prune(model, calibration=ROWS, sparsity=0.5)
    assert len(stopped.value.report.table) == 7 == len(find_matrices(model)[0])
    assert all((matrix.weight == 0).double().mean() == 0.5 for matrix in find_matrices(model)[0])


def hooks_of(model):
    return [hook for module in model.modules() for hook in (*module._forward_pre_hooks, *module._forward_hooks)]


def test_nothing_is_left_behind():
    model = made(GROUPED)
    prune(model, calibration=ROWS, sparsity=0.5)
    assert not hooks_of(model) and not any("forward" in vars(module) for module in model.modules())


def test_dead_inputs_and_singular_hessians_are_reported():
    model = made(GROUPED)
    model.model.layers[0].mlp.up_proj.weight.data[3] = 0
    table = prune(model, calibration=rows(4), method="sparsegpt", sparsity=0.5, damping=0.0).table
    down = table[(table["layer"] == 0) & (table["matrix"] == "mlp.down_proj")].iloc[0]
    assert down["dead"] == 1 and (model.model.layers[0].mlp.down_proj.weight[:, 3] == 0).all()
    assert (table["damping"] > 0).all(), "four tokens are too few for a Hessian that can be inverted"
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())


def test_what_is_not_finite_is_refused():
    bad = torch.full((4, 4), torch.inf, dtype=torch.float64)
    with refused(
        "expected second moments of the inputs that are finite, got some that no damping makes invertible; check the "
        "model's activations for infinity and NaN"
    ):
        sparsegpt(torch.ones(2, 4, dtype=torch.float64), bad, Pattern.read(0.5), damping=0.01)


def test_a_second_prune_says_so(caplog):
    model = made(GROUPED)
    assert prune(model, calibration=ROWS, sparsity=0.5).notes == ()
    with caplog.at_level(logging.WARNING):
        report = prune(model, calibration=ROWS, sparsity=0.6)
    note = "the model was pruned before: 50.0% of the weights were zero already, and count as such"
    assert report.notes == (note,) and note in caplog.text


def test_a_model_on_which_someone_skips_is_refused():
    model = made(GROUPED)
    sentence = (
        "expected a model that nobody skips or watches in, but this one is held; leave that block first, and prune the "
        "dense model"
    )
    with st.skip(model, st.StaticFFN(layers=(1,))), refused(sentence, RuntimeError):
        prune(model, calibration=ROWS, sparsity=0.5)
    with st.recording.watch(model), refused(sentence, RuntimeError):
        prune(model, calibration=ROWS, sparsity=0.5)


def test_models_that_cannot_be_pruned_are_refused():
    with pytest.raises(UnsupportedModel, match=r"layer 0 of MixtralForCausalLM holds mlp\.\w+.*this family cannot be"):
        prune(made(("mixtral", {}), torch.float32), calibration=ROWS, sparsity=0.5)
    tied = made(GROUPED)
    tied.model.layers[1].mlp.up_proj.weight = tied.model.layers[1].mlp.gate_proj.weight
    with refused(
        "expected matrices that belong to one module each, but that of mlp.gate_proj in layer 1 of LlamaForCausalLM is "
        "tied to another's; untie them first",
        UnsupportedModel,
    ):
        prune(tied, calibration=ROWS, sparsity=0.5)
    quantised = made(GROUPED)
    quantised.config.quantization_config = {"quant_method": "awq"}
    with refused(
        "expected weights that can be set to zero one by one, but LlamaForCausalLM is quantised; prune the model it "
        "was made of, and quantise that",
        UnsupportedModel,
    ):
        prune(quantised, calibration=ROWS, sparsity=0.5)


SHARE = "expected a sparsity from 0 to below 1, or N:M as a text"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"sparsity": 1.0}, f"{SHARE}, got 1.0; 0.5 sets half the weights to zero"),
        ({"sparsity": -0.1}, f"{SHARE}, got -0.1; 0.5 sets half the weights to zero"),
        ({"sparsity": "half"}, "expected a sparsity such as 0.5 or '2:4', got 'half'; write it so"),
        (
            {"sparsity": "5:4"},
            "expected N:M with 0 < N <= M, since N of every M weights are kept, got '5:4'; correct it",
        ),
        (
            {"sparsity": "2:5"},
            "expected matrices whose inputs can be parted into groups of 5, but self_attn.q_proj in layer 0 has 32; "
            "choose another N:M, or a share",
        ),
        ({"method": "best"}, f"expected a method among {', '.join(METHODS)}, got 'best'; choose one"),
        ({"update": "best"}, "expected an update among none, sparsegpt, least-squares, got 'best'; choose one"),
        ({"group": "column"}, "expected a group among matrix, row, got 'column'; choose one"),
        (
            {"method": "sparsegpt", "group": "row"},
            "expected no group= with 'sparsegpt' at 0.5, which compares within blocks of 128 columns, got 'row'; leave "
            "it out",
        ),
        (
            {"calibration": None},
            "expected calibration texts for 'wanda', got none; draw some with saturation.calibration.draw, or prune by "
            "magnitude",
        ),
        ({"damping": -1.0}, "expected damping >= 0 and columns >= 1, got -1.0 and 128; correct them"),
        ({"batch_size": 0}, "expected batch_size >= 1, got 0; 1 takes one text at a time"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(asked, sentence):
    model, dense = made(GROUPED), made(GROUPED)
    with refused(sentence):
        prune(model, **{"calibration": ROWS, "sparsity": 0.5, **asked})
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), dense.parameters(), strict=True))


# ------------------------------------------------------------------------------------------------ a real model


def test_methods_on_stories260k_in_the_order_that_was_measured(stories):
    """Perplexity of TinyStories at 50 %, calibrated on the first stories and judged on the others."""
    model, tokenizer, texts = stories
    found = {}
    for method in ("none", "sparsegpt", "wanda", "magnitude"):
        own = copy.deepcopy(model)
        if method != "none":
            prune(own, calibration=texts[:20], tokenizer=tokenizer, method=method, sparsity=0.5)
        table = st.quality.losses(own, tokenizer, texts[80:], stride=256, progress=False)
        found[method] = float(np.exp(table["nll"].sum() / table["tokens"].sum()))
    assert all(one < other for one, other in pairwise(found.values())), found


def test_a_walk_that_is_left_early_leaves_gradients_as_they_were():
    from saturation.pruning.layerwise import Walk

    going = Walk(build("llama"), ROWS, 1).run(0)
    assert not next(going).requires_grad
    assert torch.is_grad_enabled()
