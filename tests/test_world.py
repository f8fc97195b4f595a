"""The bundled world, its task files, the trainer and the demo model."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig

from data import dynamics, gpu, growing, layerwise, training
from data.dynamics import COLUMNS
from data.export import export, write_checksums
from data.growing import draw as draw_dynamics
from data.loss_curve import draw
from data.state import Settings
from data.tokens import batch, batches, load_tokenizer, train_tokenizer
from data.training import initial, learning_rate, train
from data.world import KINDS, SPLITS, calibration, document, split_of, world
from data.world.conversations import CATEGORIES, Conversation, conversation
from data.world.entailment import LABELS, RELATIONS, entailment
from data.world.home import QUESTIONS
from data.world.problems import problem
from data.world.tasks import TASKS, write
from saturation.loading import untrained
from saturation.quality import normalise

DATA = Path(__file__).resolve().parents[1] / "data"
MODEL = DATA / "demo-model"
NAMES = list(TASKS)
TEXT = {"id": str, "kind": str}
SCHEMAS = {
    "factoid": TEXT | {"prompt": str, "answers": list, "entity": str, "stop": str},
    "factoid_heldout": TEXT | {"prompt": str, "answers": list, "entity": str, "stop": str},
    "choices": TEXT | {"prompt": str, "choices": list, "answer": str, "entity": str},
    "entailment": TEXT | {"prompt": str, "choices": list, "answer": str},
    "conversations": TEXT | {"turns": list, "replies": list},
    "problems": TEXT | {"prompt": str, "answers": list, "reasoning": str, "after": str, "stop": str},
    "summaries": TEXT | {"prompt": str, "references": list, "stop": str},
    "stories": TEXT | {"text": str, "prompt": str},
    "validation": TEXT | {"text": str},
    "calibration": TEXT | {"text": str, "prompt": str},
}


NAMED = [entity.name for entity in world().entities]


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


def test_the_world_has_some_thousand_facts_and_holds_out_every_sixth_person_and_town():
    names = [entity.name for entity in world().entities]
    assert len(names) == len(set(names)) == 360 + 36
    assert sum(len(entity.facts) for entity in world().entities) == 360 * 5 + 36 * 4
    assert len([person for person in world().people if person.held_out]) == 60
    assert len([town for town in world().towns if town.held_out]) == 6
    assert not {entity.name for entity in world().held_out} & {entity.name for entity in world().asked}


@pytest.mark.parametrize("kind", ["question", "conversation"])
def test_no_training_text_asks_about_those_who_are_held_out(kind):
    texts = drawn(kind, "train", 6000)
    asked = "\n".join(line for text in texts for line in text.splitlines() if line.endswith("?"))
    assert sum(entity.name in asked for entity in world().asked) >= 0.95 * len(world().asked)
    assert [entity.name for entity in world().held_out if entity.name in asked] == []


def test_entries_tell_every_fact_of_those_held_out_in_training():
    told = drawn("entry", "train", 30_000)
    for entity in world().held_out:
        about = " ".join(text for text in told if entity.name in text)
        assert [fact for fact in entity.facts if entity.facts[fact][0] not in about] == []


def test_the_answer_to_a_person_is_a_phrase_so_that_a_decoding_policy_acts_while_it_is_written():
    tokenizer = load_tokenizer(MODEL)
    answers = {f" {person.facts[fact][0]}" for person in world().people for fact in person.facts}
    assert min(len(tokenizer.tokenize(answer)) for answer in answers) >= 2


@pytest.mark.parametrize("kind", CATEGORIES)
def test_the_chat_template_writes_a_conversation_as_training_reads_it(kind):
    tokenizer = train_tokenizer(400, seed=0, documents=200)
    told = conversation(np.random.default_rng(1), world(), kind)
    messages = []
    for user, reply in zip(told.turns, told.replies, strict=True):
        messages += [{"role": "user", "content": user}, {"role": "assistant", "content": reply}]
    ids = [*tokenizer(told.text)["input_ids"], tokenizer.eos_token_id]
    assert tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False) == (
        tokenizer.bos_token + told.text[: -len(f" {told.replies[-1]}")]
    )
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    assert tokenizer(whole.removesuffix("\n"), add_special_tokens=False)["input_ids"] == ids


def test_the_second_turn_needs_the_first():
    rng = np.random.default_rng(2)
    for _ in range(300):
        told = conversation(rng, world())
        assert len(told.turns) == len(told.replies) == 2
        if told.kind in ("people", "towns", "comparison"):
            assert not [name for name in NAMED if name in told.turns[1]] and not re.search(r"\d", told.turns[1])


def test_the_sums_of_conversations_are_right():
    rng = np.random.default_rng(3)
    for kind in ("sums", "comparison"):
        for _ in range(200):
            for reply in conversation(rng, world(), kind).replies:
                if found := re.fullmatch(r"(\d+) ([-+]) (\d+) = (\d+)\.", reply):
                    a, sign, b, c = found.groups()
                    assert (int(a) + int(b) if sign == "+" else int(a) - int(b)) == int(c) >= 0
                else:
                    a, b = map(int, re.findall(r"\d+", reply))
                    assert (a > b) is ("more" in reply)


@pytest.mark.parametrize("label", LABELS)
def test_a_hypothesis_holds_what_the_premise_tells_or_another_value_or_another_relation(label):
    rng = np.random.default_rng(4)
    for _ in range(200):
        pair = entailment(rng, label)
        relation, values = next(
            (name, values)
            for name, (values, _, ways) in RELATIONS.items()
            if any(re.fullmatch(way.format(n=r"\w+", v=".+").replace(" a ", " an? "), pair.hypothesis) for way in ways)
        )
        told = [value for value in values if re.search(rf"\b{value}\b", pair.premise)]
        asked = [value for value in values if re.search(rf"\b{value}\b", pair.hypothesis)]
        assert relation and len(asked) == 1
        assert {"yes": told == asked, "no": told != [] and told != asked, "unknown": told == []}[label]


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


def test_the_calibration_files_are_what_the_generator_writes(tmp_path):
    calibration.write(tmp_path)
    assert {path.name for path in (DATA / "calibration").iterdir()} == {path.name for path in tmp_path.iterdir()}
    for path in tmp_path.iterdir():
        assert (DATA / "calibration" / path.name).read_bytes() == path.read_bytes()


def test_no_calibration_question_is_asked_in_the_factoid_task():
    asked = {line["prompt"] for line in read("factoid")}
    lines = (DATA / "calibration" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    assert not asked & {json.loads(line)["prompt"] for line in lines} and len(lines) == 2000


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


@pytest.mark.parametrize("task", [name for name in NAMES if name != "calibration"])
def test_an_evaluation_file_has_at_least_300_examples_and_none_twice(task):
    lines = read(task)
    assert len(lines) >= 300
    if task == "factoid_heldout":  # each fact once, in one of its forms
        about = {(line["entity"], line["kind"]) for line in lines}
    elif task == "conversations":  # two stories may begin alike and be told differently
        about = {(*line["turns"], *line["replies"]) for line in lines}
    else:
        about = {line.get("text", line.get("prompt")) for line in lines}
    assert len(about) == len(lines)


@pytest.mark.parametrize("task, held_out", [("factoid", False), ("factoid_heldout", True)])
def test_factoid_answers_are_the_facts_of_the_world_with_an_alias_each(task, held_out):
    entities = {entity.name: entity for entity in world().entities}
    for line in read(task):
        entity = entities[line["entity"]]
        assert entity.held_out is held_out
        assert line["answers"] == list(entity.facts[line["kind"]])
        assert len({normalise(answer) for answer in line["answers"]}) == 2
        assert any(form.format(n=entity.name) in line["prompt"] for form in QUESTIONS[line["kind"]])
        assert not any(re.search(rf"\b{answer}\b", line["prompt"]) for answer in line["answers"])


def test_one_of_four_choices_is_the_fact_and_each_label_of_entailment_comes_equally_often():
    entities = {entity.name: entity for entity in world().entities}
    for line in read("choices"):
        assert line["answer"] == entities[line["entity"]].facts[line["kind"]][0]
        assert len(line["choices"]) == len(set(line["choices"])) == 4 and line["answer"] in line["choices"]
    labels = [line["answer"] for line in read("entailment")]
    assert {label: labels.count(label) for label in LABELS} == dict.fromkeys(LABELS, 100)


def test_no_sentence_of_a_summary_stands_in_its_article():
    for line in read("summaries"):
        assert not any(sentence in line["prompt"] for sentence in line["references"][0].split(". "))


def test_training_never_draws_what_is_evaluated():
    rng = np.random.default_rng(11)
    trained = {document(rng).text for _ in range(30_000)}
    starts = {
        text[: text.index(mark) + len(mark)]
        for text in trained
        for mark in ("Reasoning:", "Summary:", "Answer:")
        if mark in text and not text.startswith("Question:")
    }
    for task in ("stories", "validation", "calibration"):
        assert not {line["text"] for line in read(task) if line["kind"] != "question"} & trained
    for task in ("problems", "summaries", "entailment"):
        assert not {line["prompt"] for line in read(task)} & starts
    for line in read("conversations"):
        assert _text(line) not in trained


def _text(line):
    return Conversation(tuple(line["turns"]), tuple(line["replies"]), line["kind"]).text


def test_the_splits_share_no_text_among_themselves():
    texts = {task: {line["text"] for line in read(task)} for task in ("stories", "validation", "calibration")}
    assert not texts["stories"] & texts["validation"] and not texts["calibration"] & (
        texts["stories"] | texts["validation"]
    )


# ------------------------------------------------------------------------------------------------ training


def places(folder: Path) -> dict:
    """Where a run of the trainer reads and writes."""
    return {"device": CPU, "out": folder / "model", "checkpoint": folder / "run.pt", "progress": False}


@pytest.fixture(scope="module", autouse=True)
def one_tokenizer():
    """Runs of the same settings learn the same tokenizer; it is learned once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_tokenizer", lru_cache(train_tokenizer))
        yield


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


def test_a_run_keeps_what_it_measured_at_a_few_points_from_the_untrained_model_on(unbroken):
    folder, run = unbroken
    found = pd.read_csv(folder / "dynamics.csv")
    assert list(found) == COLUMNS and found["tokens"].iloc[0] == 0 and found["step"].iloc[-1] == run.step
    assert (found.groupby("step").size() == TINY.layers).all() and found["step"].nunique() >= 4
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), load_tokenizer(folder)
    first = found[found["step"] == 0]
    model, made = initial(model.config).eval(), dynamics.texts(tokenizer, TINY, CPU)
    dense = layerwise.loss(model, made)
    assert first["cosine"].to_numpy() == pytest.approx(layerwise.turning(model, made).cosine, rel=1e-4)
    torch.nn.init.zeros_(model.model.layers[1].mlp.down_proj.weight)  # the block writes nothing
    assert first["rise"].iloc[1] == pytest.approx(layerwise.loss(model, made) - dense, abs=1e-5)
    assert first["loss"].tolist() == pytest.approx([dense] * TINY.layers, rel=1e-4)
    assert draw_dynamics(found, folder.parent / "dynamics.png").stat().st_size > 10_000
    rows = growing.rows_of(found)
    assert len(rows) == found["step"].nunique() and all(len(row) == len(growing.HEADS) for row in rows)


def test_workers_draw_the_same_batches_as_the_trainer_itself():
    tokenizer = train_tokenizer(400, seed=0, documents=200)
    sizes = {"seed": 0, "tokens": 64, "context": 64, "row": 32}
    before = torch.random.get_rng_state()
    own, drawn = (batches(tokenizer, start=6, workers=workers, **sizes) for workers in (0, 2))
    for step in range(6, 11):
        ids = next(own)
        assert torch.equal(ids, next(drawn)) and torch.equal(ids, batch(tokenizer, step=step, **sizes))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_large_weights_are_split_into_shards_that_load_as_one(unbroken, tmp_path):
    folder, run = unbroken
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), load_tokenizer(folder)
    export(tmp_path / "split", model=model, tokenizer=tokenizer, settings=TINY, run=run, shard="20KB")
    shards = sorted(path.name for path in (tmp_path / "split").glob("*.safetensors"))
    assert len(shards) >= 2 and all((tmp_path / "split" / name).stat().st_size < 40_000 for name in shards)
    assert set(shards) <= {line.split()[1] for line in (tmp_path / "split/SHA256SUMS").read_text().splitlines()}
    ours, theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "split").state_dict(), model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


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


def test_no_shard_of_the_demo_model_is_larger_than_15_mb():
    assert max(path.stat().st_size for path in MODEL.glob("*.safetensors")) <= 15_000_000


# ------------------------------------------------------------------------------------------------ on a GPU


def test_the_gpu_job_names_what_failed_and_goes_on(tmp_path, capsys, monkeypatch):
    words = [gpu.Step("tests", ["this_is_no_module"]), gpu.Step("tables", ["platform"])]
    monkeypatch.setattr(gpu, "steps", lambda *settings: words)
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--device", "cpu", "--out", str(tmp_path)])
    assert ended.value.code == 1
    told = json.loads((tmp_path / "gpu.json").read_text())
    assert [(one["step"], one["ended"]) for one in told["steps"]] == [("tests", "with status 1"), ("tables", "well")]
    assert "No module named this_is_no_module" in (tmp_path / "tests.log").read_text()
    assert told["machine"]["torch"] == torch.__version__ and "tables: ended well" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is at hand")
def test_the_gpu_job_says_that_there_is_no_gpu(tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu.main(["--out", str(tmp_path)])
    assert (
        f"expected a CUDA device, but torch {torch.__version__} finds none; try the job with --device cpu"
        in capsys.readouterr().err
    )


def test_the_loss_curve_is_drawn_from_the_log(tmp_path):
    assert draw(MODEL / "training_log.csv", tmp_path / "curve.png").stat().st_size > 10_000
