"""Harm: exact against a slow independent loop, bounded in memory, kept like a trace, and what its input must be."""

from __future__ import annotations

import copy
import re

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from typer.testing import CliRunner

import saturation as st
from saturation.anatomy import UnsupportedModel, find_blocks
from saturation.cli import app
from saturation.trace import Harm, rank_correlations
from tests.families import LAYERS, build
from tests.tokens import Words

SINK = 2
TEXTS = [[3, 5, 7, 9, 11, 13, 15, 17, 19], [4, 6, 8, 10, 12], [20, 21], [33, 35, 31, 37, 39, 41, 32]]
FAMILIES = ("llama", "gpt2", "gpt_neox", "gemma2", "cohere", "granite")
CHANGED = {
    "gemma2": {"final_logit_softcapping": 2.0},
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 3.0},
}
FIT = [" ".join(one.text.split()) for one in st.tasks.bundled("stories").head(12)]  # a line each
MIXERS = {"llama": "self_attn", "gpt2": "attn", "gemma2": "self_attn", "granite": "self_attn"}


def run(*words) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


def tiny(family: str):
    return build(family, **CHANGED.get(family, {}))


def harm(model, texts=TEXTS, **options) -> Harm:
    return st.harm(model, Words(), texts, **{"sink": SINK, "progress": False, **options})


def slow(model, parts: list[nn.Module], sink: int = SINK, texts=TEXTS) -> np.ndarray:
    """KL of each token from full logits in float64, text by text, each part's output zeroed by a plain hook."""

    def zeroed(module, args, output):
        blank = (output[0] if isinstance(output, tuple) else output).clone()
        blank.reshape(-1, blank.shape[-1])[sink:] = 0  # one text: rows are positions
        return (blank, *output[1:]) if isinstance(output, tuple) else blank

    rows = []
    for text in texts:
        ids = torch.tensor([text])
        with torch.no_grad():
            dense = model(input_ids=ids).logits[0].double().log_softmax(-1)
            columns = []
            for part in parts:
                handle = part.register_forward_hook(zeroed)
                without = model(input_ids=ids).logits[0].double().log_softmax(-1)
                handle.remove()
                columns.append((dense.exp() * (dense - without)).sum(-1))
        rows.append(torch.stack(columns, 1))
        rows[-1][:sink] = torch.nan
    return torch.cat(rows).numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_harm_is_that_of_a_slow_loop(family):
    model = tiny(family)
    found = harm(model, batch_size=3, chunk=4)
    exact = slow(model, [block.source for block in find_blocks(model)])
    np.testing.assert_allclose(found.kl, exact, rtol=1e-4, atol=1e-9)
    assert np.nanmin(exact.max(axis=1)) > 1e-4 and np.ptp(np.nanmean(exact, axis=0)) > 1e-4, "something was compared"
    past = found.tokens["position"] >= SINK
    assert (found.measured == past).all() and past.sum() == sum(max(0, len(text) - SINK) for text in TEXTS)


def test_harm_of_a_real_model_spares_its_sink(smollm2):
    """Layer 11 of SmolLM2 writes the massive activation into the first token: left out there too, it costs far more."""
    model, tokenizer = smollm2
    text = tokenizer(
        "The river rises in the hills above the old town, and after sixty miles it meets the sea."
    ).input_ids
    found = st.harm(model, tokenizer, [text], progress=False)
    parts = [find_blocks(model)[layer].source for layer in (0, 11, 29)]
    exact = slow(model, parts, 4, [text])
    np.testing.assert_allclose(found.kl[:, [0, 11, 29]], exact, rtol=1e-3, atol=1e-6)
    first, sparing, last = np.nanmean(exact, axis=0)
    (_, everywhere, _) = slow(model, parts, 0, [text])[4:].mean(axis=0)
    assert first > 5 and last > 1 and sparing < 0.5 < 2 < everywhere / sparing


@pytest.mark.parametrize("family", MIXERS)
def test_harm_of_attention_is_that_of_a_slow_loop(family):
    model = tiny(family)
    found = harm(model, attention=True, batch_size=3, chunk=4)
    exact = slow(model, [getattr(block.layer, MIXERS[family]) for block in find_blocks(model)])
    np.testing.assert_allclose(found.attention_kl, exact, rtol=1e-4, atol=1e-9)
    assert np.nanmin(exact.max(axis=1)) > 1e-5
    np.testing.assert_allclose(found.kl, harm(model, chunk=4).kl, rtol=1e-4)


@pytest.mark.parametrize("family", ["gpt_neox", "cohere"])
def test_attention_of_parallel_blocks_is_refused(family):
    model = tiny(family)
    with pytest.raises(UnsupportedModel) as refusal:
        harm(model, attention=True)
    assert str(refusal.value) == (
        "expected decoder layers whose attention can be left out by itself, but in layer 0 of "
        f"{type(model).__name__} ({family!r}) attention and FFN read the same input and are added together; measure "
        "the FFN alone (attention=False)"
    )


def test_attention_that_adds_the_stream_itself_is_refused():
    sentence = "what attention returns is not simply added to the residual stream; measure the FFN alone"
    with pytest.raises(UnsupportedModel, match=sentence):
        harm(tiny("bloom"), attention=True)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_batches_padding_and_chunks_change_nothing(family):
    model = tiny(family)
    one = harm(model, batch_size=1, chunk=1)
    for options in ({"batch_size": 4, "chunk": 3}, {"batch_size": 2, "chunk": 1000}):
        other = harm(model, **options)
        np.testing.assert_allclose(one.kl, other.kl, rtol=1e-4, atol=1e-9)
        assert one.tokens.equals(other.tokens)


def test_without_a_decoder_to_be_found_whole_logits_give_the_same(monkeypatch):
    model = tiny("gemma2")
    usual = harm(model)
    monkeypatch.setattr("saturation.ablation.chunked_logits._decoders", lambda model: [])
    np.testing.assert_allclose(harm(model).kl, usual.kl, rtol=1e-4, atol=1e-9)


def test_a_decoder_that_does_not_prove_itself_is_not_used():
    """A forward that scales logits by more than final states: made from these alone they would be others."""
    model = copy.deepcopy(tiny("llama"))
    plain = type(model)

    class Scaled(plain):
        def forward(self, input_ids=None, **named):
            output = super().forward(input_ids=input_ids, **named)
            output.logits = output.logits * (1 + input_ids[:, : output.logits.shape[1], None] / 10)
            return output

    model.__class__ = Scaled
    exact = slow(model, [block.source for block in find_blocks(model)])
    np.testing.assert_allclose(harm(model).kl, exact, rtol=1e-4, atol=1e-9)


class Largest(TorchDispatchMode):
    """Entries of the largest tensor that any operation returns."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for one in output if isinstance(output, tuple | list) else [output]:
            if torch.is_tensor(one):
                self.entries = max(self.entries, one.numel())
        return output


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "cohere", "granite"])
@pytest.mark.parametrize("estimate", [False, True])
def test_logits_of_few_positions_are_held_at_a_time(family, estimate):
    vocabulary, chunk = 3000, 40
    model = build(family, vocab_size=vocabulary, **CHANGED.get(family, {}))
    texts = [[(7 * place + row) % 97 + 3 for place in range(60)] for row in range(4)]
    with Largest() as largest:
        harm(model, texts, chunk=chunk, estimate=estimate)
    assert largest.entries == chunk * vocabulary < 4 * 60 * vocabulary


def made() -> tuple:
    model = tiny("llama")
    return harm(model, attention=True), st.record(model, Words(), TEXTS, progress=False)


def test_it_is_kept_as_it_is(tmp_path):
    found, _ = made()
    found.save(tmp_path / "harm.parquet")
    again = Harm.load(tmp_path / "harm.parquet")
    assert again.equals(found) and found.equals(again) and repr(again) == repr(found)
    assert again.provenance["sink"] == SINK and again.provenance["estimate"] is False
    frame = again.to_frame()
    assert len(frame) == len(found) * LAYERS
    row = frame[(frame["sequence"] == 3) & (frame["position"] == 4) & (frame["layer"] == 1)]
    token = found.tokens.query("sequence == 3 and position == 4").index[0]
    assert row["kl"].item() == found.kl[token, 1] and row["attention_kl"].item() == found.attention_kl[token, 1]
    plain = pd.read_parquet(tmp_path / "harm.parquet")
    np.testing.assert_array_equal(plain["kl_02"], found.kl[:, 2])
    assert not again.equals(Harm(found.tokens, found.kl)) and not again.equals(Harm(found.tokens, found.kl + 1))


def test_files_of_traces_and_of_harm_are_told_apart(tmp_path):
    found, trace = made()
    found.save(tmp_path / "harm.parquet")
    trace.save(tmp_path / "trace.parquet")
    for kind, noun, path in ((Harm, "record of harm", "trace.parquet"), (st.Trace, "trace", "harm.parquet")):
        name = kind.__name__
        sentence = (
            f"cannot load {tmp_path / path}: it is a Parquet file but no {noun}, for its metadata has no key "
            f"'saturation.{name.lower()}'; load files that {name}.save wrote, or build a {name} from your own columns"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            kind.load(tmp_path / path)
    with pytest.raises(FileNotFoundError, match=r"^there is no record of harm to load: .*gone.parquet is not a file$"):
        Harm.load(tmp_path / "gone.parquet")
    with pytest.raises(ValueError, match=r"^a record of harm is saved as one Parquet file: expected a path ending in"):
        found.save(tmp_path / "harm.csv")


def test_it_stands_beside_the_trace_of_the_same_texts():
    found, trace = made()
    assert found.aligned(trace) is trace
    assert trace.tokens.equals(found.tokens)
    other = st.record(tiny("llama"), Words(), [TEXTS[0][::-1], *TEXTS[1:]], progress=False)
    with pytest.raises(ValueError) as refusal:
        found.aligned(other)
    assert str(refusal.value) == (
        "expected a trace of what the harm was measured on, but the harm is of 'llama' and the trace of 'llama', and "
        "row 0 is ' a' in the one and ' q' in the other; record the same texts in the same order"
    )
    with pytest.raises(ValueError) as refusal:
        found.aligned(st.record(tiny("gpt2"), Words(), TEXTS[:2], progress=False))
    assert str(refusal.value) == (
        "expected a trace of what the harm was measured on, but the harm is of 'llama' and the trace of 'gpt2', with "
        "23 tokens x 3 layers and 14 x 3; record the same texts with the same model"
    )


@pytest.mark.parametrize("bad", [-0.25, np.inf, np.nan])
def test_a_number_that_cannot_be_is_named(bad):
    found, _ = made()
    kl = found.kl.copy()
    kl[4, 1] = bad
    with pytest.raises(ValueError) as refusal:
        Harm(found.tokens, kl)
    assert str(refusal.value) == (
        "impossible kl at layer 1, token 4 (sequence 0, position 4, ' i'): expected a finite number of nats from 0, or "
        f"NaN at every layer of a token that was not measured, got {bad}"
    )


def test_shapes_are_checked():
    found, _ = made()
    with pytest.raises(ValueError, match=r"^kl must be \[token, layer\] with a row for each of the 23 rows of tokens"):
        Harm(found.tokens, found.kl[:5])
    with pytest.raises(ValueError, match=r"^attention_kl must be float32 \[token, layer\] of shape \(23, 3\)"):
        Harm(found.tokens, found.kl, found.kl[:, :2])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"sink": 9},
            "expected texts with tokens past the attention sink, which is the first 9 positions of each, but the "
            "longest has 9; give longer texts, or a smaller sink",
        ),
        (
            {"sink": -1},
            "expected sink to be a number of positions from 0, got -1; 0 lets the first token be skipped",
        ),
        ({"sink": 1.5}, "expected sink of StaticFFN to be a whole number, got 1.5; correct it"),
        ({"texts": []}, "expected at least one prompt, got none; pass a text or a list of texts"),
        ({"chunk": 0}, "expected chunk to be a whole number from 1, got 0; correct it"),
        ({"batch_size": 0}, "expected batch_size to be a whole number from 1, got 0; correct it"),
        (
            {"attention": True, "estimate": True},
            "expected either attention=True or estimate=True, got both; the estimate is of feed-forward blocks, so "
            "measure attention exactly",
        ),
        (
            {"texts": [[3] * 65]},
            "expected prompts that fit into the model's context of 64 tokens, but prompt 1 has 65 tokens and 0 new "
            "ones are asked for; shorten it or ask for fewer",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(options, sentence):
    with pytest.raises(ValueError) as refusal:
        harm(tiny("gpt2"), **options)
    assert str(refusal.value) == sentence


def state(model) -> list:
    """What a measurement could leave on a model: forwards, hooks, gradients."""
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    return [
        [vars(module).get("forward") for module in model.modules()],
        hooks,
        [(p.requires_grad, p.grad is None) for p in model.parameters()],
    ]


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({}, 1),
        ({}, 3),
        ({}, 6),
        ({}, 7),
        ({"attention": True}, 9),
        ({"attention": True}, 16),
        ({"estimate": True}, 2),
        ({"estimate": True}, 3),
    ],
    ids=str,
)
def test_an_interrupt_leaves_nothing_behind(options, calls):
    model = tiny("llama")
    before, count = state(model), iter(range(1000))
    with torch.no_grad():
        dense = model(input_ids=torch.tensor([TEXTS[0]])).logits
    find_blocks(model)

    def interrupt(*_):
        if next(count) == calls:
            raise KeyboardInterrupt

    handle = model.model.norm.register_forward_hook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            harm(model, batch_size=2, **options)
    finally:
        handle.remove()
    assert state(model) == before
    with torch.no_grad():
        assert torch.equal(model(input_ids=torch.tensor([TEXTS[0]])).logits, dense)
    assert st.skipping.free(model, 0)


def test_an_estimate_is_the_curvature_of_a_block_left_out_a_little():
    """With the last FFN scaled by 1 - e, KL / e^2 goes to E[(f . g)^2] / 2: there no other token is touched."""
    model, step = tiny("llama"), 0.01
    found = harm(model, estimate=True, draws=400, batch_size=4)
    source = find_blocks(model)[-1].source
    rows = []
    for text in TEXTS:
        ids = torch.tensor([text])
        with torch.no_grad():
            dense = model(input_ids=ids).logits[0].double().log_softmax(-1)
            handle = source.register_forward_hook(lambda module, args, output: output * (1 - step))
            moved = model(input_ids=ids).logits[0].double().log_softmax(-1)
            handle.remove()
        rows.append(((dense.exp() * (dense - moved)).sum(-1) / step**2)[SINK:])
    exact = torch.cat(rows).numpy()
    estimated = found.kl[found.measured, -1]
    np.testing.assert_allclose(estimated, exact, rtol=0.5)
    assert estimated.sum() == pytest.approx(exact.sum(), rel=0.1)
    assert found.provenance["estimate"] is True and (found.provenance["draws"], found.provenance["seed"]) == (400, 0)


def test_an_estimate_is_seeded_and_works_where_gradients_are_off():
    model = tiny("falcon")
    with torch.inference_mode():
        one, same, other = (harm(model, estimate=True, seed=seed) for seed in (0, 0, 1))
    assert one.equals(same) and not np.array_equal(one.kl, other.kl, equal_nan=True)


@pytest.fixture(scope="module")
def bundled() -> tuple:
    model, tokenizer = st.load("demo")
    texts = [example.text for example in st.tasks.bundled("validation").head(6)]
    exact = st.harm(model, tokenizer, texts, progress=False)
    estimate = st.harm(model, tokenizer, texts, estimate=True, draws=4, progress=False)
    return exact, estimate, st.record(model, tokenizer, texts, progress=False)


def test_an_estimate_ranks_blocks_as_the_exact_harm_does(bundled):
    exact, estimate, _ = bundled
    assert exact.measured.sum() > 300
    means = [np.nanmean(one.kl, axis=0) for one in (exact, estimate)]
    assert stats.spearmanr(*means).statistic > 0.8
    table = rank_correlations(exact, other=estimate.kl, resamples=50).set_index("scope")
    assert table.loc["within a layer", "low"] > 0.15 and table.loc["pooled", "low"] > 0.2


def test_correlations_are_spearmans(bundled):
    exact, _, trace = bundled
    table = rank_correlations(exact, trace, resamples=40).set_index(["predictor", "scope"])
    past, kl = exact.measured, exact.kl[exact.measured]
    distance, growth = trace.distance[past], trace.growth[past]
    for name, values in (("distance", distance), ("growth", growth)):
        each = [stats.spearmanr(values[:, layer], kl[:, layer]).statistic for layer in range(exact.layers)]
        assert table.loc[(name, "within a layer"), "rho"] == pytest.approx(np.mean(each), abs=1e-9)
        whole = stats.spearmanr(values.ravel(), kl.ravel()).statistic
        assert table.loc[(name, "pooled"), "rho"] == pytest.approx(whole, abs=1e-9)
    position = trace.tokens["position"].to_numpy()[past]
    each = [stats.spearmanr(position, kl[:, layer]).statistic for layer in range(exact.layers)]
    assert table.loc[("position", "within a layer"), "rho"] == pytest.approx(np.mean(each), abs=1e-9)
    before = stats.spearmanr(distance[:, :-1].ravel(), kl[:, 1:].ravel()).statistic
    assert table.loc[("distance of the block before", "pooled"), "rho"] == pytest.approx(before, abs=1e-9)
    token = trace.distance[np.flatnonzero(past) - 1]
    before = stats.spearmanr(token.ravel(), kl.ravel()).statistic
    assert table.loc[("distance of the token before", "pooled"), "rho"] == pytest.approx(before, abs=1e-9)
    assert ((table["low"] < table["rho"]) & (table["rho"] < table["high"])).all()
    assert table.loc[("distance of the block before", "pooled"), "n"] == past.sum() * (exact.layers - 1)


def test_the_first_token_of_a_text_has_no_token_before_it():
    model = tiny("llama")
    whole, trace = harm(model, sink=0), st.record(model, Words(), TEXTS, progress=False)
    table = rank_correlations(whole, trace, ["distance", "distance of the token before"], resamples=5)
    tokens = sum(map(len, TEXTS))
    assert table["n"].tolist() == [tokens * LAYERS] * 2 + [(tokens - len(TEXTS)) * LAYERS] * 2


def told(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_harm_is_drawn_by_layer():
    found, _ = made()
    figure = st.figures.harm(found)
    (ax,), (source,) = figure.axes, figure.sources
    lines = [line for line in ax.get_lines() if line.get_label() in ("FFN, mean", "attention, mean")]
    for line, kl in zip(lines, (found.kl, found.attention_kl), strict=True):
        np.testing.assert_allclose(line.get_ydata(), np.nanmean(kl.astype(float), axis=0))
    assert ax.get_yscale() == "log"
    assert told(figure) == ["FFN, mean", "attention, mean", "median", "10–90 % past the sink (2)"]
    assert source.kind == "harm" and source.about["harm"][0]["model"] == "llama"
    last = source.data[source.data["left out"] == "FFN"].iloc[-1]
    past = found.kl[found.measured, -1].astype(float)
    assert (last["median"], last["90 %"]) == pytest.approx((np.median(past), np.quantile(past, 0.9)))
    plain = Harm(found.tokens, found.kl)
    assert told(st.figures.harm(plain, quantiles=None)) == ["FFN, mean", "median"]
    assert told(st.figures.harm(plain, quantiles=(0.25, 0.75)))[-1] == "25–75 % of tokens"
    assert ax.get_ylabel() == "KL(dense ‖ without), nats"


def test_a_drawn_estimate_is_named_as_one():
    found = harm(tiny("llama"), estimate=True)
    assert st.figures.harm(found).axes[0].get_ylabel() == "estimated KL(dense ‖ without), nats"


@pytest.mark.parametrize("by", ["distance", "growth", "position"])
def test_harm_is_drawn_against_a_trace(bundled, by):
    exact, _, trace = bundled
    figure = st.figures.harm_against(exact, trace, by=by, resamples=30)
    (ax,), (source,) = figure.axes, figure.sources
    blocks = int(exact.measured.sum()) * exact.layers
    table = rank_correlations(exact, trace, [by], resamples=30)
    name = {"distance": "1 − cos"}.get(by, by)
    assert told(figure) == [
        f"{blocks:,} blocks; Spearman with {name}",
        *(
            f"{row.scope} {row.rho:.2f} ({row.low:.2f} to {row.high:.2f})".replace("-", "−")
            for row in table.itertuples()
        ),
    ]
    assert int(ax.collections[0].get_array().sum()) == blocks == len(source.data), "no block is left out"
    assert source.about["rank correlations"] == table.to_dict("records")
    values = trace.tokens["position"].to_numpy()[exact.measured] if by == "position" else trace.groups[by]
    assert source.data[by].max() == pytest.approx(values.max() if by == "position" else values[exact.measured].max())
    assert ax.xaxis.get_inverted() == (by == "distance") and ax.get_xscale() == (
        "linear" if by == "position" else "log"
    )


def test_every_cell_of_positions_holds_as_many_of_them():
    """Else few positions leave gaps, and many make stripes."""
    for count in (21, 100, 500):
        tokens = pd.concat([harm(tiny("llama")).tokens[:1]] * count, ignore_index=True).assign(position=range(count))
        kl = np.full((count, 2), 0.5, np.float32)
        trace = st.Trace(tokens, distance=kl, growth=kl, skipped=np.zeros((count, 2), bool))
        ax = st.figures.harm_against(Harm(tokens, kl), trace, by="position", resamples=2).axes[0]
        cells = np.ma.filled(ax.collections[0].get_array(), 0).sum(axis=0)
        assert len(cells) <= 50 and cells.sum() == 2 * count
        assert (cells[1:-2] == cells[1]).all() and cells[1] == 2 * max(1, -(-count // 48))


def test_figures_of_harm_refuse_what_they_cannot_draw():
    found, trace = made()
    with pytest.raises(TypeError) as refusal:
        st.figures.harm(trace)
    assert str(refusal.value) == "expected a Harm, as saturation.harm gives it, got Trace; measure one"
    with pytest.raises(ValueError) as refusal:
        st.figures.harm_against(found, trace, by="entropy")
    assert str(refusal.value) == "expected by to be 'distance', 'growth' or 'position', got 'entropy'; choose one"
    nothing = Harm(found.tokens, np.full_like(found.kl, np.nan))
    with pytest.raises(ValueError) as refusal:
        st.figures.harm(nothing)
    assert str(refusal.value) == (
        "nothing to draw: none of the 23 tokens was measured; measure longer texts, or with a smaller sink"
    )


def test_the_command_measures_and_draws(tmp_path):
    (tmp_path / "prompts.txt").write_text("Question: Where was Mara Vance born?\nOne fine day Tobin went home.\n")
    prompts = ("--prompts", tmp_path / "prompts.txt")
    code, out, _ = run("harm", "demo", *prompts, "--attention", "--sink", 2, "-o", tmp_path / "harm.parquet")
    found = Harm.load(tmp_path / "harm.parquet")
    assert code == 0 and found.attention_kl is not None and found.provenance["sink"] == 2
    lines = out.splitlines()
    count = found.measured.sum()
    assert lines[0].endswith(f"{count} tokens x 16 layers, mean KL(dense || without) per layer, nats")
    assert lines[1].split() == [f"{mean:.2g}" for mean in found.kl[found.measured].mean(axis=0)]
    assert lines[2].startswith("attention: ")
    code, _, _ = run("harm", "demo", *prompts, "--estimate", "-o", tmp_path / "estimate.parquet")
    assert code == 0 and Harm.load(tmp_path / "estimate.parquet").provenance["estimate"] is True
    assert run("record", "demo", *prompts, "-o", tmp_path / "trace.parquet")[0] == 0
    for files in (["harm.parquet"], ["harm.parquet", "trace.parquet"]):
        paths = [tmp_path / name for name in files]
        assert run("figure", "harm", *paths, "-o", tmp_path / f"{len(files)}.pdf", "--venue", "acl")[0] == 0
        assert (tmp_path / f"{len(files)}.pdf").is_file() and (tmp_path / f"{len(files)}.data.csv").is_file()
    code, _, err = run("figure", "harm", *[tmp_path / "harm.parquet"] * 3, "-o", tmp_path / "3.pdf")
    assert (code, err) == (
        1,
        "saturation: expected a file of harm, and at most the trace to draw it against, got 3 files; leave the others "
        "out\n",
    )
    code, _, err = run("harm", "demo", "-p", "a", "-o", tmp_path / "short.parquet")
    assert code == 1 and err.endswith(
        "saturation: expected texts with tokens past the attention sink, which is the first 4 positions of each, but "
        "the longest has 2; give longer texts, or a smaller sink\n"
    )
    assert not (tmp_path / "short.parquet").exists()


def test_an_interval_is_that_of_sequences_drawn_again(bundled):
    """The bootstrap's weights give what ranking the drawn sequences anew gives."""
    from saturation.trace.correlation import _Ranks, _rho

    exact, _, trace = bundled
    rows = np.flatnonzero(exact.measured)
    sequence = exact.tokens["sequence"].to_numpy()[rows]
    x, y = trace.distance[rows, 3].round(3), exact.kl[rows, 3]  # rounded: ties
    drawn = [0, 0, 2, 5, 5, 5]
    again = np.concatenate([np.flatnonzero(sequence == number) for number in drawn])
    weight = np.bincount(drawn, minlength=6).astype(float)[sequence]
    group = np.zeros(len(rows), int)
    found = _rho(_Ranks(x, group), _Ranks(y, group), group, weight)
    assert found == pytest.approx(stats.spearmanr(x[again], y[again]).statistic, abs=1e-9)


def test_correlations_refuse_what_they_cannot_rank(bundled):
    exact, _, trace = bundled
    with pytest.raises(ValueError, match=r"^expected predictors among distance, .*, got 'entropy'; name one of them$"):
        rank_correlations(exact, trace, ["entropy"])
    with pytest.raises(
        ValueError, match=r"^expected a trace of the texts that the harm was measured on, got none; record one$"
    ):
        rank_correlations(exact)
    _, beside = made()
    alone = rank_correlations(harm(tiny("llama"), TEXTS[:1]), beside.select(sequence=0), resamples=5)
    assert alone["low"].isna().all() and alone["rho"].notna().all()


@pytest.mark.parametrize("words", ["narrow:0.25", "mean", "scale", "map:8"])
def test_the_command_measures_an_action_in_a_blocks_place(words, tmp_path):
    (tmp_path / "fit.txt").write_text("\n".join(FIT), encoding="utf-8")
    path = tmp_path / "harm.parquet"
    code, out, err = run("harm", "demo", "-p", FIT[0], "--action", words, "--fit", tmp_path / "fit.txt", "-o", path)
    demo = st.load("demo")
    kind, _, number = words.partition(":")
    action = (
        st.narrow(*demo, FIT, width=float(number), progress=False)
        if kind == "narrow"
        else st.stand_in(*demo, FIT, by=kind, **({"rank": int(number)} if number else {}), progress=False)
    )
    assert code == 0, err
    assert f"KL(dense || with '{action.describe()}')" in out
    np.testing.assert_allclose(Harm.load(path).kl, st.harm(*demo, FIT[:1], action=action, progress=False).kl)
