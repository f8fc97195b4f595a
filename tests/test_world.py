"""The bundled world, its task files, the trainer and the demo model."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig

from data import layerwise
from data.export import write_checksums
from data.loss_curve import draw
from data.tokens import batch, load_tokenizer, train_tokenizer
from data.training import Settings, initial, learning_rate, train
from data.world import KINDS, SPLITS, document, split_of, world
from data.world.people import FACTS, QUESTIONS
from data.world.problems import problem
from data.world.tasks import TASKS, write
from saturation.loading import untrained
from saturation.quality import normalise

DATA = Path(__file__).resolve().parents[1] / "data"
MODEL = DATA / "demo-model"
NAMES = [task.__name__ for task in TASKS]
TEXT = {"id": str, "kind": str}
SCHEMAS = {
    "factoid": TEXT | {"prompt": str, "answers": list, "entity": str, "stop": str},
    "factoid_heldout": TEXT | {"prompt": str, "answers": list, "entity": str, "stop": str},
    "problems": TEXT | {"prompt": str, "answers": list, "reasoning": str, "after": str, "stop": str},
    "summaries": TEXT | {"prompt": str, "references": list, "stop": str},
    "stories": TEXT | {"text": str, "prompt": str},
    "validation": TEXT | {"text": str},
    "calibration": TEXT | {"text": str, "prompt": str},
}


def read(task):
    return [json.loads(line) for line in (DATA / "tasks" / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()]


TINY = Settings(
    layers=2, hidden=32, intermediate=48, heads=2, vocabulary=400, context=64, row=32, batch_tokens=64,
    tokens=64 * 12, checkpoint_minutes=0.0,
)  # fmt: skip
CPU = torch.device("cpu")


# ------------------------------------------------------------------------------------------------ the world


def drawn(kind: str, split: str, number: int, seed: int = 7) -> list[str]:
    rng = np.random.default_rng(seed)
    return [document(rng, split, kind).text for _ in range(number)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_tells_the_same_and_another_seed_something_else(kind):
    assert drawn(kind, "train", 20) == drawn(kind, "train", 20)
    assert drawn(kind, "train", 20) != drawn(kind, "train", 20, seed=8)


def test_generating_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is what must not move
    drawn("story", "train", 5)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_the_split_of_a_key_is_fixed_and_splits_have_their_shares():
    assert [split_of(key) for key in ("0", "8", "15", "16", "34")] == [
        "train",
        "validation",
        "test",
        "validation",
        "test",
    ]
    counts = dict.fromkeys(SPLITS, 0)
    for i in range(20_000):
        counts[split_of(str(i))] += 1
    for split, share in {"train": 0.85, "calibration": 0.05, "validation": 0.05, "test": 0.05}.items():
        assert counts[split] / 20_000 == pytest.approx(share, abs=0.01)


def test_everybody_has_a_name_of_their_own_and_every_sixth_is_held_out():
    people = world().people
    assert len(people) == len({person.name for person in people}) == 300
    assert 0.15 <= len(world().held_out) / len(people) <= 0.2
    assert not {person.name for person in world().held_out} & {person.name for person in world().asked}


def test_no_training_text_asks_about_a_held_out_person():
    asked = "\n".join(drawn("question", "train", 4000))
    assert sum(person.name in asked for person in world().asked) == len(world().asked)
    assert [person.name for person in world().held_out if person.name in asked] == []


def test_entries_tell_every_fact_of_held_out_people_in_training():
    told = drawn("entry", "train", 30_000)
    for person in world().held_out:
        about = " ".join(text for text in told if person.name in text)
        assert [fact for fact in FACTS if person.facts[fact][0] not in about] == []


@pytest.mark.parametrize("steps", [1, 2])
def test_the_reasoning_of_a_problem_is_right_and_leads_to_the_answer(steps):
    apply = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "x": lambda a, b: a * b}
    rng = np.random.default_rng(0)
    for _ in range(500):
        made = problem(rng, steps)
        equations = [re.fullmatch(r"(\d+) ([-+x]) (\d+) = (\d+)\.", step).groups() for step in made.steps]
        assert len(equations) == steps
        assert all(apply[sign](int(a), int(b)) == int(c) for a, sign, b, c in equations)
        assert made.answer == int(equations[-1][-1]) and 0 < made.answer < 100


# ------------------------------------------------------------------------------------------------ the task files


def test_the_committed_files_are_what_the_generator_writes(tmp_path):
    write(tmp_path)
    assert {path.name for path in (DATA / "tasks").iterdir()} == {path.name for path in tmp_path.iterdir()}
    for path in tmp_path.iterdir():
        assert (DATA / "tasks" / path.name).read_bytes() == path.read_bytes(), (
            f"run python -m data.world for {path.name}"
        )


@pytest.mark.parametrize("task", NAMES)
def test_every_line_follows_the_schema(task):
    lines = read(task)
    assert [line["id"] for line in lines] == [f"{task}-{i:03d}" for i in range(len(lines))]
    for line in lines:
        assert {key: type(value) for key, value in line.items()} == SCHEMAS[task]
        assert all(value for value in line.values())
        assert all(
            isinstance(text, str) and text.strip() == text for text in line.get("answers", line.get("references", []))
        )
        assert line.get("prompt", "").rstrip() == line.get("prompt", ""), "a prompt ends without a space"


@pytest.mark.parametrize("task", ["stories", "calibration"])
def test_a_text_begins_with_its_prompt(task):
    assert all(line["text"].startswith(line["prompt"]) for line in read(task))


@pytest.mark.parametrize("task", ["factoid", "factoid_heldout", "problems", "summaries"])
def test_no_example_stands_twice(task):
    about = [(line["prompt"] if task != "factoid_heldout" else (line["entity"], line["kind"])) for line in read(task)]
    assert len(set(about)) == len(about)


@pytest.mark.parametrize("task, held_out", [("factoid", False), ("factoid_heldout", True)])
def test_factoid_answers_are_the_facts_of_the_world_with_an_alias_each(task, held_out):
    people = {person.name: person for person in world().people}
    for line in read(task):
        person = people[line["entity"]]
        assert person.held_out is held_out
        assert line["answers"] == list(person.facts[line["kind"]])
        assert len({normalise(answer) for answer in line["answers"]}) == 2
        assert any(form.format(n=person.name) in line["prompt"] for form in QUESTIONS[line["kind"]])
        assert not any(re.search(rf"\b{answer}\b", line["prompt"]) for answer in line["answers"])


def test_no_sentence_of_a_summary_stands_in_its_article():
    for line in read("summaries"):
        assert not any(sentence in line["prompt"] for sentence in line["references"][0].split(". "))


def test_training_never_draws_what_is_evaluated():
    rng = np.random.default_rng(11)
    trained = {document(rng).text for _ in range(30_000)}
    starts = {
        text[: text.index(mark) + len(mark)] for text in trained for mark in ("Reasoning:", "Summary:") if mark in text
    }
    for task in ("stories", "validation", "calibration"):
        assert not {line["text"] for line in read(task) if line["kind"] != "question"} & trained
    for task in ("problems", "summaries"):
        assert not {line["prompt"] for line in read(task)} & starts


def test_the_splits_share_no_text_among_themselves():
    texts = {task: {line["text"] for line in read(task)} for task in ("stories", "validation", "calibration")}
    assert not texts["stories"] & texts["validation"] and not texts["calibration"] & (
        texts["stories"] | texts["validation"]
    )


# ------------------------------------------------------------------------------------------------ training


def places(folder: Path) -> dict:
    """Where a run of the trainer reads and writes."""
    return {"device": CPU, "out": folder / "model", "checkpoint": folder / "run.pt", "progress": False}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A tiny run from start to end: its folder and its record."""
    folder = tmp_path_factory.mktemp("unbroken")
    run = train(TINY, **places(folder))
    return folder / "model", run


class Kill(Exception):
    """Stands for a power cut."""


def killed_at(step: int, error: type[BaseException] = Kill):
    def after_step(run):
        if run.step == step:
            raise error

    return after_step


def test_a_killed_run_goes_on_to_the_same_loss_and_the_same_weights(unbroken, tmp_path):
    folder, whole = unbroken
    with pytest.raises(Kill):
        train(TINY, after_step=killed_at(7), **places(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]
    done: list[int] = []
    resumed = train(TINY, after_step=lambda run: done.append(run.step), **places(tmp_path))
    assert done == list(range(7, 13)), "step 7 was not yet written down when it was killed"
    assert resumed.step == whole.step == 12
    assert [line["loss"] for line in resumed.lines] == [line["loss"] for line in whole.lines]
    assert (tmp_path / "model/model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["model"], "a finished run leaves no checkpoint"


def test_ctrl_c_leaves_a_checkpoint_and_no_model(tmp_path):
    patient = replace(TINY, checkpoint_minutes=60.0)
    with pytest.raises(KeyboardInterrupt):
        train(patient, after_step=killed_at(3, KeyboardInterrupt), **places(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.pt"]


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    with pytest.raises(Kill):
        train(TINY, after_step=killed_at(2), **places(tmp_path))
    with pytest.raises(ValueError) as caught:
        train(replace(TINY, clip=2.0), **places(tmp_path))
    assert str(caught.value) == (
        "expected a checkpoint of a run with these settings, "
        f"but that of {tmp_path / 'run.pt'} has clip 1.0 instead of 2.0: "
        "give its settings to go on with it, give another --checkpoint, or delete it to start afresh"
    )


def test_a_run_can_end_by_the_clock(tmp_path):
    assert train(replace(TINY, minutes=1e-6), **places(tmp_path)).step == 1


def test_batches_are_a_function_of_seed_and_step_alone():
    tokenizer = train_tokenizer(400, seed=0, documents=200)
    sizes = {"tokens": 64, "context": 64, "row": 32}
    assert torch.equal(batch(tokenizer, seed=0, step=5, **sizes), batch(tokenizer, seed=0, step=5, **sizes))
    assert not torch.equal(batch(tokenizer, seed=0, step=5, **sizes), batch(tokenizer, seed=0, step=6, **sizes))
    assert batch(tokenizer, seed=0, step=2, **sizes).shape == (2, 33)
    assert batch(tokenizer, seed=0, step=3, **sizes).shape == (1, 65)  # every fourth step: the full context
    assert (batch(tokenizer, seed=0, step=0, **sizes)[:, 0] == tokenizer.bos_token_id).all()


def test_the_learning_rate_rises_and_falls_by_a_half_cosine():
    settings = Settings(learning_rate=1.0, warmup=0.1)
    rates = [learning_rate(progress, settings) for progress in (0.05, 0.1, 0.55, 1.0)]
    assert rates == pytest.approx([0.5, 1.0, 0.505, 0.01])


def test_the_exported_folder_loads_and_its_untrained_twin_can_be_rebuilt(unbroken):
    folder, _ = unbroken
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert {value.dtype for value in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    before = torch.random.get_rng_state()
    ours, theirs = initial(model.config).state_dict(), untrained(folder).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_tokenizer_adds_bos_pads_left_and_gives_every_byte_back(unbroken):
    tokenizer = load_tokenizer(unbroken[0])
    text = "Question: 12 + 35 = 47. Café \t→ ?\nAnswer:"
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id and tokenizer.bos_token_id not in ids[1:]
    assert tokenizer.decode(ids[1:]) == text
    assert tokenizer(["a", text], padding=True)["input_ids"][0][0] == tokenizer.pad_token_id


# ------------------------------------------------------------------------------------------------ measuring


def test_leaving_a_sublayer_out_is_undone_and_layer_zero_matters(unbroken):
    folder, _ = unbroken
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), load_tokenizer(folder)
    made = layerwise.batches(tokenizer, ["Once upon a time.", "The end, my friend, is near."])
    dense = layerwise.loss(model, made)
    rises = layerwise.single_skips(model, made, "mlp")
    assert rises.shape == (2,) and np.abs(rises).max() > 0
    assert layerwise.loss(model, made) == dense
    assert not any(layer.mlp._forward_hooks for layer in model.model.layers)


def test_an_ffn_that_writes_nothing_turns_nothing():
    config = LlamaConfig(
        vocab_size=99, hidden_size=32, intermediate_size=37, num_hidden_layers=3, num_attention_heads=2
    )
    config.init_seed = 0
    model = initial(config).eval()
    torch.nn.init.zeros_(model.model.layers[1].mlp.down_proj.weight)
    turned = layerwise.turning(model, [(torch.arange(14).view(2, 7), torch.ones(2, 7, dtype=torch.bool))])
    assert turned.cosine[1] == pytest.approx(1, abs=1e-12) and turned.growth[1] == 0
    assert (turned.cosine[[0, 2]] < 1).all()


# ------------------------------------------------------------------------------------------------ the demo model


def test_the_demo_model_is_what_its_checksums_say(tmp_path):
    lines = (MODEL / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert sums == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in MODEL.iterdir()
        if path.name != "SHA256SUMS"
    }
    (tmp_path / "a").write_text("a")
    write_checksums(tmp_path)
    assert (
        (tmp_path / "SHA256SUMS")
        .read_text()
        .startswith("ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  a")
    )


def test_the_demo_model_has_the_promised_shape_and_size():
    config = json.loads((MODEL / "config.json").read_text())
    assert config["model_type"] == "llama" and config["num_hidden_layers"] >= 12
    assert config["max_position_embeddings"] >= 1024 and isinstance(config["init_seed"], int)
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= 16 * 2**20


def test_the_loss_curve_is_drawn_from_the_log(tmp_path):
    assert draw(MODEL / "training_log.csv", tmp_path / "curve.png").stat().st_size > 10_000
