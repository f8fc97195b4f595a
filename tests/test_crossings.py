"""What crosses between a device and the host while text is decoded and recorded: nothing per layer."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

AHEAD = ("dense", "static", "random", "table")


@pytest.fixture(scope="module")
def counts(root) -> dict[str, dict[str, list[float]]]:
    """Transfers to the host and from it, per decode step and once at the end, by policy, layers and batch."""
    told = [sys.executable, "-m", "tests.crossing"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(told, cwd=root, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", AHEAD)
@pytest.mark.parametrize("layers", [3, 5])
def test_one_token_and_nothing_else_comes_over_where_all_is_known_before(counts, name, layers):
    assert counts[f"{name} {layers} 1"]["step"] == [1, 0]


@pytest.mark.parametrize(
    ("name", "reads"), [("router", "the stream in front of one block"), ("causal", "its distances")]
)
@pytest.mark.parametrize("layers", [3, 5])
def test_those_that_read_numbers_read_them_once_a_pass(counts, name, reads, layers):
    assert counts[f"{name} {layers} 1"]["step"] == [2, 0], reads


@pytest.mark.parametrize("layers", [3, 5])
def test_the_papers_rule_waits_at_each_probed_layer(counts, layers):
    """Which it must; and what is counted here would be seen elsewhere too."""
    assert counts[f"rule {layers} 1"]["step"] == [1 + layers - 1, 0]


@pytest.mark.parametrize("name", AHEAD)
def test_sequences_that_skip_different_blocks_cost_one_more_for_all_layers(counts, name):
    down, up = counts[f"{name} 3 3"]["step"]
    assert down == 1 and up <= 1


@pytest.mark.parametrize("name", [*AHEAD, "router", "causal"])
def test_a_recording_comes_over_at_once_when_it_is_asked_for(counts, name):
    shallow, deep = (counts[f"{name} {layers} 1"]["end"] for layers in (3, 5))
    assert shallow == deep and sum(shallow) <= 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here: unmeasured")
def test_on_cuda_a_pass_waits_for_nothing():
    import saturation as st

    model, _ = st.load("demo", device="cuda")
    ids = torch.tensor([[5, 6, 7]], device="cuda")
    with torch.no_grad(), st.skip(model, st.StaticFFN((5, 6), sink=0)), st.recording.watch(model):
        cache = model(ids, use_cache=True).past_key_values
        torch.cuda.synchronize()
        try:
            torch.cuda.set_sync_debug_mode("error")
            for _ in range(20):
                model(ids[:, :1], past_key_values=cache, use_cache=True)
        finally:
            torch.cuda.set_sync_debug_mode("default")
