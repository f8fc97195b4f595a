"""GGUF files: the same numbers, an ordinary model, its tokenizer; and the sentence for each file that is refused."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest
import torch
import transformers

import saturation as st
from saturation import loading
from saturation.loading import LoadingError, gguf_conversion
from saturation.sweeps import cell_keys
from tests import ggufs
from tests.ggufs import END, TURN


def sentence(text: str) -> str:
    return "^" + re.escape(text) + "$"


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return ggufs.write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def same(one, other) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_the_numbers_are_those_of_the_model_it_was_written_from(file):
    model, tokenizer = st.load(file)
    assert same(model, ggufs.tiny()) and model.dtype == torch.float32
    assert not model.training and not any(weight.requires_grad for weight in model.parameters())
    given = tokenizer("Then the other", return_tensors="pt").input_ids
    assert torch.equal(model(given).logits, ggufs.tiny()(given).logits)
    assert st.record(model, tokenizer, "Then").model == str(file)


def test_a_folder_of_one_file_is_that_file(file):
    assert same(st.load(file.parent)[0], ggufs.tiny())
    assert st.record(*st.load(str(file.parent)), "Then").model == str(file.parent)


@pytest.mark.parametrize("settings", [True, False])
def test_what_comes_back_is_an_ordinary_model(settings, file, tmp_path, monkeypatch):
    """Also from versions of transformers that have no settings of GGUF files."""
    if not settings:
        monkeypatch.setattr(gguf_conversion, "_settings", lambda: None)
    model, tokenizer = st.load(file)
    assert not hasattr(model.config, "quantization_config") and not getattr(model, "is_quantized", False)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, read = st.load(tmp_path)
    assert same(again, model)
    assert cell_keys.tokens(read) == cell_keys.tokens(tokenizer)
    assert again.generation_config.eos_token_id == model.generation_config.eos_token_id
    assert cell_keys.fingerprint(st.load(file)[0]) == cell_keys.fingerprint(model)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(None, torch.float32), ("float16", torch.float16), (torch.bfloat16, torch.bfloat16), ("auto", torch.bfloat16)],
)
def test_blocks_are_unpacked_to_the_type_that_is_asked_for(dtype, expected, tmp_path):
    model, _ = st.load(ggufs.write(tmp_path / "q8.gguf", quantised=True), dtype=dtype)
    assert {weight.dtype for weight in model.parameters()} == {expected} and model.config.dtype == expected
    for weight, whole in zip(model.parameters(), ggufs.tiny().parameters(), strict=True):
        assert torch.allclose(weight.float(), whole, atol=0.02)
    assert not hasattr(model.config, "quantization_config")


def test_floats_keep_their_type_with_auto(file):
    assert st.load(file, dtype="auto")[0].dtype == torch.float32


def test_the_chat_template_is_there_and_its_end_of_turn_ends_a_text(file, tmp_path):
    model, tokenizer = st.load(file)
    said = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert said == "<|im_start|>user\nHi<|im_end|>\n"
    assert tokenizer(said).input_ids.count(TURN) == 1
    assert model.generation_config.eos_token_id == [END, TURN]
    plain, without = st.load(ggufs.write(tmp_path / "plain.gguf", template=None))
    assert without.chat_template is None and plain.generation_config.eos_token_id == END
    odd = "{{ raise_exception('a tool is missing') }}"
    assert st.load(ggufs.write(tmp_path / "odd.gguf", template=odd))[0].generation_config.eos_token_id == END


def test_digits_are_split_first_where_the_vocabulary_was_learned_so(file, tmp_path):
    """Two spaces before a digit are one token there; elsewhere the second belongs to the digit."""
    apart = st.load(ggufs.write(tmp_path / "digits.gguf", split="smollm"))[1]
    assert apart.convert_ids_to_tokens(apart("a  5").input_ids) == ["a", "ĠĠ", "5"]
    together = st.load(file)[1]
    assert together.convert_ids_to_tokens(together("a  5").input_ids) == ["a", "Ġ", "Ġ", "5"]


def test_the_control_has_its_architecture(file):
    assert loading.config_of(file).num_hidden_layers == ggufs.tiny().config.num_hidden_layers
    control = st.untrained(file)
    assert {name: weight.shape for name, weight in control.named_parameters()} == {
        name: weight.shape for name, weight in ggufs.tiny().named_parameters()
    }
    assert control.config._name_or_path == f"{file}, untrained (seed 0)"


# --- what can go wrong --------------------------------------------------------------------------------------------


def test_without_the_extra(file, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else found(name))
    expected = (
        f"expected the package gguf, which reads GGUF files such as {str(file)!r}, but it is not installed; "
        "pip install 'saturation[gguf]'"
    )
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.load(file)


def test_a_file_that_is_not_there(tmp_path):
    missing = tmp_path / "none.gguf"
    with pytest.raises(
        LoadingError, match=sentence(f"expected a GGUF file, but there is no {str(missing)!r}; check the spelling")
    ):
        st.load(missing)


def test_a_file_that_is_not_gguf(tmp_path):
    page = tmp_path / "page.gguf"
    page.write_text("<!doctype html>")
    expected = (
        f"expected a GGUF file, which begins with the letters GGUF, but {str(page)!r} begins with b'<!do'; give the "
        "file of weights itself, not a pointer to it or a page about it"
    )
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.load(page)


@pytest.mark.parametrize("kept", [4, 20, 30, 1000, 3000])
def test_a_file_cut_in_its_header(file, tmp_path, kept):
    short = tmp_path / "short.gguf"
    short.write_bytes(file.read_bytes()[:kept])
    expected = (
        f"expected a whole GGUF file, but {str(short)!r} is cut short or damaged: its header cannot be read; get it "
        "again"
    )
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.load(short)


def test_a_file_cut_in_its_weights(file, tmp_path):
    whole, short = file.read_bytes(), tmp_path / "short.gguf"
    short.write_bytes(whole[:-100])
    expected = (
        f"expected a whole GGUF file, but {str(short)!r} is cut short or damaged: it holds {len(whole) - 100:,} bytes "
        f"of {len(whole):,}; get it again"
    )
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.load(short)


def test_a_file_of_nonsense(file, tmp_path):
    broken = tmp_path / "broken.gguf"
    data = bytearray(file.read_bytes())
    data[24:32] = b"\xff" * 8  # the length of the first key
    broken.write_bytes(data)
    expected = (
        f"expected a whole GGUF file, but {str(broken)!r} is cut short or damaged: its header cannot be read; get it "
        "again"
    )
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.load(broken)


def test_an_architecture_that_is_not_converted(tmp_path):
    path = ggufs.write(tmp_path / "rwkv.gguf", architecture="rwkv6")
    known = gguf_conversion._architectures()
    assert {"llama", "qwen2moe", "gemma3"} <= set(known) and "general" not in known
    expected = (
        f"expected an architecture that transformers {transformers.__version__} converts from GGUF, but {str(path)!r} "
        f"holds 'rwkv6'; it knows {', '.join(known)}: take the same model in Hugging Face format, or a newer "
        "transformers"
    )
    for take in (st.load, st.untrained):
        with pytest.raises(LoadingError, match=sentence(expected)):
            take(path)


def test_a_tokenizer_that_is_not_converted(tmp_path, monkeypatch):
    monkeypatch.setattr(ggufs.GGUFWriter, "add_tokenizer_model", lambda self, _: self.add_string(
        "tokenizer.ggml.model", "plaid"))  # fmt: skip
    path = ggufs.write(tmp_path / "plaid.gguf")
    begin = f"expected a GGUF file that transformers {transformers.__version__} converts, but {str(path)!r} (llama) is"
    with pytest.raises(
        LoadingError,
        match=f"^{re.escape(begin)} not one: .*plaid.*; take the same model in Hugging Face format, or a newer "
        "transformers$",
    ):
        st.load(path)


def test_one_part_of_several(tmp_path):
    path = ggufs.write(tmp_path / "m-00001-of-00003.gguf", parts=3)
    expected = (
        f"expected a GGUF file in one piece, but {str(path)!r} is one of 3; join them first with llama.cpp's "
        "'llama-gguf-split --merge'"
    )
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.load(path)


def test_a_folder_of_several(file, tmp_path):
    for name in ("b.gguf", "a.GGUF"):
        shutil.copy(file, tmp_path / name)
    expected = (
        f"expected one GGUF file in {str(tmp_path)!r}, got 2: a.GGUF, b.gguf; name the file instead of the folder"
    )
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.load(tmp_path)


def test_a_file_has_no_revisions(file):
    expected = (
        f"expected a revision only of a model on the hub, got 'main' for {str(file)!r}, which is read from a folder; "
        "leave it out"
    )
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.load(file, revision="main")
