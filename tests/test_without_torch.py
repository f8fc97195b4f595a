"""A Trace opens, replays and draws in a process where torch cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

import saturation as st
from tests.families import build
from tests.test_recording import ids

SCRIPT = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None  # importing them raises ImportError

import saturation as st

trace = st.Trace.load(sys.argv[1])
policy = st.FFNSkip.fit(trace, ratio=0.2, cold_start=0, cold_end=0, warmup=0)
replayed = st.replay(policy, trace)
for name, figure in {
    "layers": st.figures.layers(trace),
    "tokens": st.figures.tokens(trace, sequence=0),
    "distribution": st.figures.distribution(trace),
    "growth": st.figures.growth(trace),
    "replay": st.figures.replay(trace, policy),
}.items():
    st.figures.save(figure, f"{sys.argv[2]}/{name}.pdf")
print(len(trace), replayed.skipped.sum(), st.policies.from_json(policy.to_json()) == policy)
"""


def test_a_trace_opens_replays_and_draws(tmp_path: Path) -> None:
    model = build("llama")
    with st.recording.watch(model, start=0) as recorder, torch.no_grad():
        model(ids(4))
    trace = recorder.trace()
    trace.save(tmp_path / "trace.parquet")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "trace.parquet", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    policy = st.FFNSkip.fit(trace, ratio=0.2, cold_start=0, cold_end=0, warmup=0)
    skipped = st.replay(policy, trace).skipped.sum()
    assert done.stdout.split() == [str(len(trace)), str(skipped), "True"] and skipped > 0
    assert len(list(tmp_path.glob("*.pdf"))) == 5
