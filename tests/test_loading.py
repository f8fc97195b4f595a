"""Loading: what comes back, the untrained control, and the sentence for each thing that can go wrong."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

import saturation as st
from saturation import loading
from saturation.loading import LoadingError, bundled
from tests.families import FAMILIES, VOCABULARY, build


def sentence(text: str) -> str:
    return "^" + re.escape(text) + "$"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny model with a tokenizer in Hugging Face format."""
    path = tmp_path_factory.mktemp("model")
    build("llama").save_pretrained(path)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(path)
    return path


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_folder_loads_ready_to_measure(folder):
    model, tokenizer = st.load(folder)
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert model.dtype == torch.float32
    assert tokenizer("w5 w7").input_ids == [5, 7]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), build("llama").parameters(), strict=True))
    assert st.record(model, tokenizer, "w5 w7").model == str(folder)


def test_a_type_can_be_asked_for(folder):
    assert st.load(folder, dtype=torch.bfloat16)[0].dtype == torch.bfloat16
    assert st.load(folder, device_map={"": "cpu"})[0].device.type == "cpu"


def test_the_bundled_model_is_called_demo():
    model, tokenizer = st.load("demo")
    assert st.record(model, tokenizer, "Question: Where").model == "demo"
    assert model.config.num_hidden_layers >= 12 and model.config.max_position_embeddings >= 1024
    assert sum(path.stat().st_size for path in loading.DEMO.iterdir()) < 16 * 2**20


def test_a_damaged_bundled_model_is_named(tmp_path, monkeypatch):
    damaged = Path(shutil.copytree(loading.DEMO, tmp_path / "demo-model"))
    weights = bytearray((damaged / "model.safetensors").read_bytes())
    weights[-7] ^= 1
    (damaged / "model.safetensors").write_bytes(weights)
    monkeypatch.setattr(bundled, "DEMO", damaged)
    expected = (
        f"expected the bundled model as it was committed, but {damaged / 'model.safetensors'} differs from its "
        "checksum in SHA256SUMS; restore it with 'git checkout -- data/demo-model'"
    )
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.load("demo")


def test_a_configuration_needs_no_weights(tmp_path):
    shutil.copy(loading.DEMO / "config.json", tmp_path)
    config = loading.config_of(tmp_path)
    assert config.to_dict() | {"_name_or_path": ""} == loading.config_of("demo").to_dict() | {"_name_or_path": ""}
    assert (config.num_hidden_layers, config._name_or_path) == (16, str(tmp_path))


# --- the control --------------------------------------------------------------------------------------------------


def test_untrained_is_where_training_began(folder):
    trained = AutoModelForCausalLM.from_pretrained(loading.DEMO)
    state = torch.random.get_rng_state()
    control = st.untrained("demo")
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.random.fork_rng():
        torch.manual_seed(trained.config.init_seed)
        expected = AutoModelForCausalLM.from_config(trained.config)
    assert all(torch.equal(a, b) for a, b in zip(control.parameters(), expected.parameters(), strict=True))
    again, other = st.untrained(st.load("demo")[0]), st.untrained("demo", seed=1)
    first = [next(model.parameters()) for model in (control, again, other)]
    assert torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])


def test_untrained_leaves_the_model_it_is_made_from_alone():
    model, tokenizer = st.load("demo")
    control = st.untrained(model)
    assert st.record(model, tokenizer, "Question").model == "demo"
    assert st.record(control, tokenizer, "Question").model == "demo, untrained (seed 0)"


# --- what can go wrong --------------------------------------------------------------------------------------------


def test_demo_outside_a_clone_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "DEMO", tmp_path / "nowhere")
    expected = (
        f"expected the bundled model in {tmp_path / 'nowhere'}, but it is not there: it comes with a clone of the "
        "repository, not with the installed package; clone the repository and install it with 'pip install -e .', or "
        "pass a folder or a hub id instead"
    )
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.load("demo")


def test_an_unknown_model():
    expected = (
        "expected 'demo', a named model (smollm2, gemma3-270m), a folder, a GGUF file, or the id of a model on the "
        "hub, got 'nobody/nothing', which is none of them or cannot be reached: check the spelling, the network, and "
        "for a private model HF_TOKEN"
    )
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.load("nobody/nothing")
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.untrained("nobody/nothing")
    with pytest.raises(LoadingError, match=sentence(expected)):
        loading.config_of("nobody/nothing")


def test_a_gated_model(monkeypatch):
    def gated(*_, **__):
        raise OSError(
            "You are trying to access a gated repo.\nMake sure to have access to it at https://huggingface.co/some/model."
        )

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", gated)
    expected = (
        "expected access to 'some/model', but it is gated: ask for access on its page on the hub, then log in with "
        "'hf auth login' or set HF_TOKEN, and try again"
    )
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.load("some/model")


def test_pickled_weights_only_when_asked(copy):
    model = build("llama")
    (copy / "model.safetensors").unlink()
    torch.save(model.state_dict(), copy / "pytorch_model.bin")
    expected = (
        f"expected safetensors weights in {str(copy)!r}, found none; other formats can run code when they are opened: "
        "pass allow_pickle=True if you trust the source"
    )
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.load(copy)
    loaded, _ = st.load(copy, allow_pickle=True)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("kept", [0, 1000])
def test_damaged_weights_are_named(copy, kept):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(
        LoadingError,
        match=f"^expected whole weights, but {re.escape(str(weights))} cannot be read \\(.*\\); get that file again$",
    ):
        st.load(copy)


@pytest.mark.parametrize(
    ("said", "instead", "lacking"),
    [
        ('"num_hidden_layers": 3', '"num_hidden_layers": 4', "9 are missing or of another shape than its config.json "
         "says, such as model.layers.3.input_layernorm.weight"),
        ('"intermediate_size": 37', '"intermediate_size": 38', "9 are missing or of another shape than its config.json "
         "says, such as model.layers.0.mlp.down_proj.weight"),
    ],
)  # fmt: skip
def test_weights_that_are_not_all_there_are_refused(copy, said, instead, lacking):
    """Never a layer of random numbers."""
    text = (copy / "config.json").read_text()
    (copy / "config.json").write_text(text.replace(said, instead))
    expected = (
        f"expected all weights of the model in {str(copy)!r}, but {lacking}; use the config.json that belongs to the "
        "weights, or get all of them"
    )
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.load(copy)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_every_family_saves_is_all_there(family, folder, tmp_path):
    """Tied weights and tables that are computed anew are saved nowhere, and not missing."""
    build(family).save_pretrained(tmp_path)
    for path in folder.glob("tokenizer*"):
        shutil.copy(path, tmp_path)
    model, _ = st.load(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), build(family).parameters(), strict=True))


@pytest.mark.parametrize("dtype", ["foo", "int8", torch.int8, 16])
def test_an_unknown_type_of_weights(dtype):
    expected = f"expected a type of weights such as 'float32', 'bfloat16' or 'auto', got {dtype!r}; name one of them"
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.load("demo", dtype=dtype)


@pytest.mark.parametrize("device", ["fpga", "cuda:99", "toaster"])
def test_a_device_that_is_not_there(device):
    with pytest.raises(
        LoadingError,
        match=f"^expected a device of this machine, such as 'cpu', got '{device}' \\(.+\\); name another, or none to "
        "take the GPU where there is one$",
    ):
        st.load("demo", device=device)


def test_a_device_map_that_transformers_does_not_take():
    with pytest.raises(
        LoadingError, match=r"^expected a device_map such as 'auto' or 'cpu', but: .+ or a device instead$"
    ):
        st.load("demo", device_map="foo")


def test_a_folder_has_no_revisions(folder):
    for name in ("demo", folder):
        expected = (
            f"expected a revision only of a model on the hub, got 'nope' for {str(name)!r}, which is read from a "
            "folder; leave it out"
        )
        with pytest.raises(LoadingError, match=sentence(expected)):
            st.load(name, revision="nope")


def test_code_of_a_checkpoint_only_when_asked(copy):
    text = (copy / "config.json").read_text()
    own = '"auto_map": {"AutoConfig": "code.Own", "AutoModelForCausalLM": "code.OwnModel"}, "model_type": "own"'
    (copy / "config.json").write_text(text.replace('"model_type": "llama"', own))
    (copy / "code.py").write_text("raise SystemExit('this must not run')\n")
    expected = (
        f"expected a model that transformers knows, but {str(copy)!r} brings its own code; read that code, then pass "
        "trust_remote_code=True if you trust it"
    )
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.load(copy)


def test_a_folder_that_is_no_model(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(
        LoadingError, match=f"^expected a model in Hugging Face format in the folder {str(tmp_path)!r}, but: .*; check"
    ):
        st.load(tmp_path)


def test_an_unknown_architecture(copy):
    text = (copy / "config.json").read_text()
    (copy / "config.json").write_text(text.replace('"model_type": "llama"', '"model_type": "nonsense"'))
    with pytest.raises(LoadingError, match=r"^expected a causal language model that this transformers knows, but .*"):
        st.load(copy)


def test_a_folder_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "models").symlink_to(bundled.DEMO.parent)
    name = f"~/models/{bundled.DEMO.name}"
    assert loading.config_of(name)._name_or_path == name
    with pytest.raises(
        LoadingError,
        match=sentence(r"expected a path that a file can have, got 'a\x00b' (embedded null byte); name another"),
    ):
        loading.config_of("a\0b")
