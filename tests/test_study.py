"""A study prunes once for all tasks, goes on where it was killed, and compares sources on the same examples."""

import copy
import re

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoTokenizer

import saturation as st
from saturation import pruning, tasks
from saturation.study import METHODS, Recipe, masks, overlaps, ranking, recipes, rises, study
from saturation.study import studying as module
from saturation.tasks import Example, Task
from tests.families import build


@pytest.fixture(scope="module")
def tiny(root):
    """A tiny random llama that reads the bundled model's tokens; read only."""
    tokenizer = AutoTokenizer.from_pretrained(root / "data" / "demo-model")
    return build("llama", vocab_size=len(tokenizer), max_position_embeddings=512), tokenizer


TASKS = [tasks.bundled(name).head(4) for name in ("factoid", "problems", "stories", "conversations")]
FEW = {"tokens": [1_000], "seeds": [0, 1]}


@pytest.fixture(scope="module")
def table(tiny, tmp_path_factory):
    """A small study and its folder; read only."""
    out = tmp_path_factory.mktemp("study")
    asked = recipes(["questions", "dots"], methods=["wanda", "static"], sparsity=[0.5], **FEW)
    return study(*tiny, asked, TASKS, out=out, accuracy=False, progress=False), out


def refused(sentence):
    return pytest.raises(ValueError, match="^" + re.escape(sentence) + "$")


def test_every_recipe_is_scored_on_every_task(table):
    found, _ = table
    counts = found.groupby(["source", "method", "seed", "task"]).size()
    assert len(counts) == (1 + 2 * 2 * 2) * 4 and set(counts) == {4}
    assert set(found["source"]) == {"dense", "questions", "dots"} and found["nll"].notna().all()
    assert found[found["source"] != "dense"]["calibrated"].between(950, 1_000).all()


def test_a_row_is_the_loss_of_the_pruned_model(tiny, table):
    model, tokenizer = tiny
    sample = st.calibration.draw(model, tokenizer, "questions", tokens=1_000, seed=1)
    own = copy.deepcopy(model)
    pruning.prune(own, calibration=sample, method="wanda", sparsity=0.5)
    pairs = [(one.prompt, f" {one.reasoning}\nAnswer: {one.answers[0]}") for one in TASKS[1]]
    expected = st.quality.losses(own, tokenizer, pairs, progress=False)
    found, _ = table
    rows = found[(found["task"] == "problems") & (found["source"] == "questions") & (found["seed"] == 1)]
    rows = rows[rows["method"] == "wanda"]
    np.testing.assert_allclose(rows["nll"], expected["nll"], rtol=1e-4)
    assert rows["tokens"].tolist() == expected["tokens"].tolist()


def test_the_model_stays_as_it_was(tiny, tmp_path):
    model, before = tiny[0], copy.deepcopy(tiny[0])
    study(*tiny, recipes(["dots"], methods=["magnitude"], **FEW), TASKS[:1], out=tmp_path, accuracy=False)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before.parameters(), strict=True))
    assert not hasattr(model.config, "pruning")


def test_what_is_on_disk_is_not_run_again(tiny, table, monkeypatch):
    found, out = table
    monkeypatch.setattr(pruning, "prune", None)
    monkeypatch.setattr(module.scoring, "scored", None)
    asked = recipes(["questions", "dots"], methods=["wanda", "static"], sparsity=[0.5], **FEW)
    pd.testing.assert_frame_equal(study(*tiny, asked, TASKS, out=out, accuracy=False, progress=False), found)


def test_a_killed_study_goes_on_and_prunes_once_for_all_tasks(tiny, tmp_path, monkeypatch):
    asked, pruned, scored = recipes(["questions"], methods=["wanda"], **FEW), [], []
    prune, score = pruning.prune, module.scoring.scored

    def counted(model, **how):
        pruned.append(how["calibration"].seed)
        return prune(model, **how)

    def killed(model, tokenizer, task, **how):
        scored.append(task.name)
        if len(scored) == 7:
            raise KeyboardInterrupt
        return score(model, tokenizer, task, **how)

    monkeypatch.setattr(pruning, "prune", counted)
    monkeypatch.setattr(module.scoring, "scored", killed)
    with pytest.raises(KeyboardInterrupt):
        study(*tiny, asked, TASKS, out=tmp_path, accuracy=False, progress=False)
    assert pruned == [0] and len(scored) == 7  # four of the dense model, three of the first
    again = study(*tiny, asked, TASKS, out=tmp_path, accuracy=False, progress=False)
    assert pruned == [0, 0, 1] and len(scored) == 7 + 2 + 4
    assert len(again) == 3 * 16


def test_a_pruned_model_may_skip_too(tiny, tmp_path):
    asked = recipes(["dots"], methods=["wanda", "static"], sparsity=[0.34], tokens=[500], seeds=[0])
    policies = {"skip 1": st.StaticFFN(layers=(1,), sink=0)}
    found = study(*tiny, asked, TASKS[:1], out=tmp_path, policies=policies, accuracy=False)
    assert sorted(found.groupby(["method", "policy"]).size().index) == [
        ("", ""),
        ("", "skip 1"),
        ("static", ""),
        ("wanda", ""),
        ("wanda", "skip 1"),
    ]
    loss = found.groupby(["method", "policy"])["nll"].sum()
    assert loss["wanda", "skip 1"] != loss["wanda", ""] and loss["", "skip 1"] != loss["", ""]


def test_accuracy_is_that_of_evaluate(tiny, tmp_path):
    own = Task("two", "choice", tuple(Example(id=f"{n}", prompt="Is it?", choices=("yes", "no")) for n in range(3)))
    found = study(*tiny, [], [own, TASKS[2]], out=tmp_path, progress=False)
    told = st.quality.evaluate(*tiny, own, progress=False)
    assert found[found["task"] == "two"]["correct"].tolist() == told["correct"].astype(float).tolist()
    assert found[found["task"] == "stories"]["correct"].isna().all()


def test_what_the_model_writes_itself_is_kept(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(st.calibration.self_generated, "_AT_ONCE", 8)
    monkeypatch.setattr(st.calibration.self_generated, "_LONG", 24)
    asked = recipes(["generated"], methods=["wanda"], tokens=[300], seeds=[0], length=64)
    one = study(*tiny, asked, TASKS[:1], out=tmp_path, accuracy=False)
    monkeypatch.setattr(st.calibration.self_generated, "rows", None)
    pd.testing.assert_frame_equal(study(*tiny, asked, TASKS[:1], out=tmp_path, accuracy=False), one)


# ------------------------------------------------------------------------------------------------ comparing


def made(**rises_of):
    """Rows of two seeds on ten examples: dense losses 1 a token, others higher by what is given, by source."""
    rows = []
    for source, more in {"dense": 0.0, **rises_of}.items():
        for seed in (0, 1):
            for example in range(10):
                noise = 0.0 if source == "dense" else (example - 4.5) * 0.01 + (seed - 0.5) * 0.02
                rows.append({"source": source, "seed": seed, "example": f"{example}", "nll": 2 * (1 + more + noise)})
        if source == "dense":
            rows = rows[:10]
    common = {"task": "t", "format": "qa", "shots": np.nan, "method": "m", "sparsity": "0.5", "budget": 9, "policy": ""}
    return pd.DataFrame(rows).assign(tokens=2, correct=np.nan, **common)


def test_rises_are_per_token_and_over_seeds():
    found = rises(made(a=0.3, b=0.5)).set_index("source")
    assert found["rise"].to_dict() == pytest.approx({"a": 0.3, "b": 0.5})
    assert (
        found["dense"].tolist() == [1.0, 1.0] and found["n"].tolist() == [10, 10] and found["seeds"].tolist() == [2, 2]
    )
    assert found.loc["a", "spread"] == pytest.approx(0.02 / 2**0.5)
    assert found.loc["a", "low"] < 0.3 < found.loc["a", "high"] < 0.35


def test_a_ranking_is_paired_and_adjusted():
    found = ranking(made(b=0.5, a=0.3, same=0.3), "t")
    assert found["source"].tolist()[2] == "b" and found["rise"].is_monotonic_increasing
    last = found.iloc[2]
    assert last["p"] == pytest.approx(2 / 2**10) and last["q"] == pytest.approx(2 * 2 / 2**10)
    assert found.iloc[1]["p"] == found.iloc[1]["q"] == 1.0 and last["behind"] == pytest.approx(0.2)


def test_overlaps_count_what_is_gone_and_no_padding_of_bits(table):
    found, out = table
    held = masks(out, found)
    assert len(held) == 3, "dots are the same for every seed"
    index = overlaps(held, list(held))
    one, other = (
        np.concatenate([np.unpackbits(bits, count=int(np.prod(shape))) == 0 for bits, shape in held[name].values()])
        for name in list(held)[:2]
    )
    assert index[0, 1] == pytest.approx((one & other).sum() / (one | other).sum()) and index[0, 0] == 1.0
    odd = {"a": {"m": (np.packbits([0, 1, 1]), (1, 3))}, "b": {"m": (np.packbits([0, 0, 1]), (1, 3))}}
    assert overlaps(odd, ["a", "b"])[0, 1] == 0.5


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (
            lambda: recipes(["dots"], methods=["best"]),
            f"expected methods among {', '.join(METHODS)}, got 'best'; name some of these",
        ),
        (
            lambda: rises(made(a=0.1), score="correct"),
            "expected a score among nll, got 'correct'; name one that the table has",
        ),
        (
            lambda: rises(made(a=0.1).query("source != 'dense'")),
            "expected rows of the dense model in the table, got none; give the whole table of a study",
        ),
        (lambda: ranking(made(a=0.1), "x"), "expected a task among t, got 'x'; name one that was judged on"),
        (
            lambda: ranking(pd.concat([made(a=0.1), made(b=0.1).assign(method="other")]), "t"),
            "expected rows of one method, got m, other; select one, or name it in across=",
        ),
    ],
)
def test_bad_input_is_named(act, sentence):
    with refused(sentence):
        act()


def test_what_cannot_be_studied_is_refused_before_anything_runs(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(module.scoring, "scored", None)
    with refused("expected tasks with a name each, got 'factoid' twice; rename one or leave it out"):
        study(*tiny, [], [TASKS[0], TASKS[0]], out=tmp_path)
    asked = Task("asked", "conversation", (Example(id="1", prompt="Hello?"),))
    with refused(
        "expected tasks with texts or reference answers, but 'asked' can only be asked (zero-shot); leave it out"
    ):
        study(*tiny, [], [asked], out=tmp_path)
    with pytest.raises(ValueError, match=r"^expected a source of 90000 tokens, but 'entries' as 'text' has"):
        study(*tiny, [Recipe("entries", "wanda", 0.5, tokens=90_000)], TASKS, out=tmp_path)
    with pytest.raises(ValueError, match=r"^expected a share of the blocks for 'static', such as 0.25, got '2:4'"):
        monkeypatch.undo()
        study(*tiny, [Recipe("dots", "static", "2:4", tokens=500)], TASKS[:1], out=tmp_path, accuracy=False)


# ------------------------------------------------------------------------------------------------ the bundled study


def test_the_bundled_study_writes_its_tables_and_figures(tiny, tmp_path, monkeypatch):
    """On a tiny random model and with few texts; `make study` runs it on the bundled one."""
    from data import study as bundled

    assert len(bundled.asked((0, 1, 2), 16_384)) == 8 * 3 * 2 + 7 * 3 * 2 + 8 * 3 * 2
    monkeypatch.setattr(bundled, "SOURCES", ("problems", "dots"))
    monkeypatch.setattr(bundled, "FORMATS", {"problems": (("qa", None), ("cot", None))})
    asked = bundled.asked((0,), 700)
    rows = study(*tiny, asked, bundled.tasks(2)[:2], out=tmp_path / "cells", accuracy=False, progress=False)
    written = bundled.write(rows, tmp_path / "cells", tmp_path)
    assert all(path.exists() for path in written)
    assert {"rises.csv", "sources_wanda.png", "formats_problems_wanda.png", "overlap_wanda.png"} <= {
        p.name for p in written
    }
    ranked = pd.read_csv(tmp_path / "rankings.csv")
    assert set(ranked["method"]) == {"wanda", "sparsegpt", "static", "ffnskip"} and len(ranked) == 4 * 2 * 2
    found = rises(rows)
    own = found[(found["source"] == "dots") & (found["method"] == "wanda") & (found["task"] == "factoid")]
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert (
        f"| dots | {own['rise'].iloc[0]:.3f} |" in page
        and "rise of loss, blocks skipped by static, 25 %" in page.lower()
    )


def test_the_bundled_studys_page_says_the_findings(tmp_path):
    """From rows in which the usual text is best and arithmetic costs a nat more."""
    from data import study_page

    rows = made(mixture=0.1, problems=1.1)
    rows = pd.concat([rows.assign(task=task) for task in ("factoid", "problems")], ignore_index=True)
    rows.loc[rows["source"] == "dense", "method"] = ""
    said = "\n".join(
        study_page._found(
            pd.concat([rows[rows["source"] != "dense"].assign(method=m) for m in ("wanda", "sparsegpt")]), rows
        )
    )
    assert "- (2) arithmetic does as well as it, or better: **contradicted** with Wanda: " in said
    assert "problems +1.000 [1.000, 1.000]." in said
    assert "- (3) text of the task itself does not always help that task more: **supported** with SparseGPT" in said


def test_every_text_is_drawn_by_one_process():
    from data import study as bundled

    asked = bundled.asked((0, 1), 16_384)
    parts = [bundled.share(asked, number, 3) for number in range(3)]
    assert sorted(map(str, asked)) == sorted(str(recipe) for part in parts for recipe in part)
    texts = [{recipe.texts() for recipe in part} for part in parts]
    assert not texts[0] & texts[1] and not texts[1] & texts[2] and not texts[0] & texts[2]
    assert [recipe.seed for recipe in asked] == sorted(recipe.seed for recipe in asked)
