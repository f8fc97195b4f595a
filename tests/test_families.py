"""The table of families is that of the pinned transformers, and still true for some of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from benchmarks.families import FACTS, TABLE, rows, verdict
from tests.families import FAMILIES

ROWS = rows()


def test_every_type_of_the_pinned_transformers_is_in_the_table(root: Path):
    pinned = re.search(r"^transformers==(.+)$", (root / "requirements.txt").read_text(), re.MULTILINE).group(1)
    assert f"Every type in transformers {pinned} " in TABLE.read_text()
    assert set(ROWS) == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def test_no_family_is_wrong_and_the_tested_ones_work():
    assert [kind for kind, (status, _) in ROWS.items() if status == "wrong"] == []
    assert [kind for kind in FAMILIES if ROWS[kind][0] != "works"] == []


KINDS = [
    "llama",
    "gpt_neox",
    "olmo2",
    "gpt_oss",
    "mamba",
    "xglm",
    "nemotron_h",
    "recurrent_gemma",
    "zaya",
    "deepseek_v4",
    "granitemoehybrid",
    "kimi_linear",
    "minimax",
    "xlm",
    "gemma4_assistant",
]


def test_nothing_is_unbuilt_but_for_a_reason_of_its_own():
    assert {kind for kind, (status, _) in ROWS.items() if status == "not built"} == set(FACTS)
    assert sum(status == "works" for status, _ in ROWS.values()) >= 137


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_what_the_script_gives(kind):
    assert verdict(kind) == ROWS[kind]
