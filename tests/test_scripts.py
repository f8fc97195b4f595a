"""What *Copy as Python* gives, run in another folder by another process: the same text, or why there is none."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import saturation as st
from saturation.loading import Origin, origin
from saturation.policies import StaticFFN
from saturation.sweeps import cell_keys
from saturation.widgets import ThresholdTuner
from tests.families import build

PATIENCE = 300  # seconds; a guard against hanging on a busy machine
PROMPT = "Once upon a time"

Made = tuple[Any, Any]


@pytest.fixture(scope="module")
def demo() -> Made:
    torch.set_num_threads(1)
    return st.load("demo")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a notebook stands in."""
    (tmp_path / "notebook").mkdir()
    monkeypatch.chdir(tmp_path / "notebook")
    return tmp_path


def copied(made: Made) -> tuple[str, str]:
    """The script of a tuner at rest, as its button copies it, and the text on the screen."""
    tuner = ThresholdTuner(*made, PROMPT, policy=StaticFFN((5, 6)), max_new_tokens=8)
    try:
        assert tuner.settle(PATIENCE)
        assert tuner.view.copy.text == tuner.script
        return tuner.script, repr(tuner.result.passages[0].text)
    finally:
        tuner.close()


def run(script: str, place: Path, root: Path) -> subprocess.CompletedProcess[str]:
    """Run a script where nothing of the notebook lies."""
    other = place / "elsewhere"
    other.mkdir(exist_ok=True)
    (other / "state.py").write_text(script)
    env = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "state.py"], cwd=other, env=env, capture_output=True, text=True, check=False)


def in_a_folder(made: Made, name: str) -> None:
    for part in made:
        part.save_pretrained(name)


def of_a_relative_folder(demo: Made) -> Made:
    in_a_folder(demo, "models/mine")
    return st.load("models/mine")


def of_a_relative_folder_by_transformers(demo: Made) -> Made:
    in_a_folder(demo, "models/mine")
    return AutoModelForCausalLM.from_pretrained("models/mine").eval(), demo[1]


def untrained(demo: Made) -> Made:
    return st.untrained(demo[0], seed=3), demo[1]


def in_another_type(demo: Made) -> Made:
    return st.load("demo", dtype=torch.bfloat16)


@pytest.mark.parametrize(
    "make",
    [of_a_relative_folder, of_a_relative_folder_by_transformers, untrained, in_another_type],
    ids=lambda make: make.__name__,
)
def test_a_copied_script_writes_the_text_on_the_screen(
    make: Callable[[Made], Made], demo: Made, here: Path, root: Path
) -> None:
    script, text = copied(make(demo))
    done = run(script, here, root)
    assert done.returncode == 0, done.stderr
    assert f"skipping:\n  {text}" in done.stdout
    assert f", dtype={'bfloat16' if make is in_another_type else 'float32'!r}" in script, "each device has its own"


def pruned(demo: Made) -> Made:
    model = copy.deepcopy(demo[0])
    st.prune(model, calibration=[[1, 2, 3, 4]], method="magnitude", sparsity=0.3, progress=False)
    return model, demo[1]


def trained(demo: Made) -> Made:
    model = copy.deepcopy(demo[0]).requires_grad_(True)
    step = torch.optim.SGD(model.parameters(), lr=0.1)
    given = demo[1](PROMPT, return_tensors="pt")
    model(**given, labels=given["input_ids"]).loss.backward()
    step.step()
    return model.eval(), demo[1]


@pytest.mark.parametrize("make", [pruned, trained], ids=lambda make: make.__name__)
def test_a_model_that_was_changed_is_told_and_saved_it_runs(
    make: Callable[[Made], Made], demo: Made, here: Path, root: Path
) -> None:
    model, tokenizer = make(demo)
    script, text = copied((model, tokenizer))
    done = run(script, here, root)
    assert done.returncode == 1 and "dense" not in done.stdout
    wanted, got = cell_keys.fingerprint(model), cell_keys.fingerprint(demo[0])
    assert done.stderr.splitlines()[-1] == (
        f"ValueError: expected the model that this script was copied for, with the fingerprint {wanted}, got one with "
        f"{got}: it was changed there after it was loaded (trained, pruned, wrapped), or lies here in another state; "
        "save it there with model.save_pretrained(FOLDER) and tokenizer.save_pretrained(FOLDER), and load that folder"
    )
    in_a_folder((model, tokenizer), str(here / "kept"))
    done = run(script.replace("st.load('demo', ", f"st.load({str(here / 'kept')!r}, "), here, root)
    assert done.returncode == 0, done.stderr
    assert f"skipping:\n  {text}" in done.stdout


def test_a_model_made_in_memory_says_where_to_put_it(demo: Made, here: Path, root: Path) -> None:
    config = copy.deepcopy(demo[0].config)
    config._name_or_path = ""
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(config).eval()
    script, text = copied((model, demo[1]))
    done = run(script, here, root)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "nothing says where this model came from (made in memory, or not loaded by st.load): in the "
        "notebook that has it, call "
        "model.save_pretrained(FOLDER) and tokenizer.save_pretrained(FOLDER), and set FOLDER here to that folder\n"
    )
    in_a_folder((model, demo[1]), str(here / "kept"))
    done = run(script.replace("FOLDER = ''", f"FOLDER = {str(here / 'kept')!r}"), here, root)
    assert done.returncode == 0, done.stderr
    assert f"skipping:\n  {text}" in done.stdout


def test_a_tokenizer_that_was_changed_is_told(demo: Made) -> None:
    weights, words = cell_keys.fingerprint(demo[0]), cell_keys.tokens(demo[1])
    cell_keys.verify(*demo, weights=weights, words=words)
    with pytest.raises(
        ValueError, match=r"^expected the tokenizer that this script was copied for, with the fingerprint "
    ):
        cell_keys.verify(*demo, weights=weights, words="0")


def test_a_model_that_is_trained_under_a_tuner_gives_another_script(demo: Made) -> None:
    model = copy.deepcopy(demo[0])
    tuner = ThresholdTuner(model, demo[1], PROMPT, policy=StaticFFN((5,)), max_new_tokens=4)
    assert tuner.settle(PATIENCE)
    before = tuner.view.copy.text
    with torch.no_grad():
        model.model.layers[7].mlp.down_proj.weight.data *= 0.9
    assert tuner.script != before and cell_keys.fingerprint(model) in tuner.script
    tuner.policy = StaticFFN((6,))
    assert tuner.settle(PATIENCE) and cell_keys.fingerprint(model) in tuner.view.copy.text
    tuner.close()


def test_where_a_model_came_from(demo: Made, here: Path) -> None:
    in_a_folder(demo, "mine")
    folder = str(here / "notebook" / "mine")
    model, _ = st.load("mine", device="cpu")
    assert origin(demo[0]) == Origin("demo") and origin(copy.deepcopy(demo[0])) == Origin("demo")
    assert origin(model) == Origin(folder, {"device": "cpu"})
    assert origin(st.untrained(model, seed=2)) == Origin(folder, {"device": "cpu"}, seed=2)
    assert origin(st.untrained("mine")) == Origin(folder, {}, seed=demo[0].config.init_seed)
    assert origin(torch.compile(model)) == origin(model)
    named = copy.deepcopy(demo[0])
    for name, found in {"Qwen/Qwen2.5-0.5B": Origin("Qwen/Qwen2.5-0.5B"), "": None, "llama": None}.items():
        named.config._name_or_path = name
        assert origin(named) == found


def test_a_sample_of_the_weights_sees_one_neuron_go() -> None:
    model = copy.deepcopy(build("llama", hidden_size=64, intermediate_size=128))
    before = cell_keys.sample(model)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[:, 5] = 0
    assert cell_keys.sample(model) != before
