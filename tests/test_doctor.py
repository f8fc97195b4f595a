"""What `saturation doctor` says of a model that was wrapped, quantised and compiled."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

import saturation as st
from saturation.cli import doctor
from tests.families import LAYERS
from tests.test_cli import run
from tests.test_quantised import FourBits, plain, replaced
from tests.test_recording import ids


def made() -> tuple[Any, Any]:
    model = plain()
    for layer in model.model.layers:
        replaced(FourBits)(layer.mlp)
    return model, nn.DataParallel(torch.compile(model, backend="eager"))


def test_the_doctor_says_what_was_made_of_a_model(monkeypatch):
    inner, model = made()
    monkeypatch.setattr(doctor, "open_model", lambda *options: (model, None))
    code, out, _ = run("doctor", "llama")
    held = sum(p.numel() * p.element_size() for p in inner.parameters())
    held += sum(b.numel() * b.element_size() for layer in inner.model.layers for b in layer.mlp.buffers())
    assert code == 0, out
    assert f"ok  llama        {held / 1024:.0f} KiB of weights as stored, computing in float32\n" in out
    assert "ok  wrappers     DataParallel around OptimizedModule around the model\n" in out
    assert f"ok  quantised    {3 * LAYERS} FourBits\n" in out
    assert "--  compiled     1 parts (OptimizedModule); they run uncompiled while measured\n" in out
    assert f"ok  stack        model.layers: {LAYERS} LlamaDecoderLayer\n" in out


def test_a_compiled_model_is_said_to_run_uncompiled_once(caplog):
    _, model = made()
    expected = (
        "1 parts of the model are compiled (OptimizedModule): inside watch and skip they run as they were written, "
        "since a compiled forward sees no hook or breaks its graph at every layer; numbers are the same, speed is that "
        "of the model without torch.compile, and behind the block it runs compiled again"
    )
    with caplog.at_level(logging.WARNING), torch.no_grad():
        for _ in range(2):
            with st.skip(model, st.FFNSkip(0.7, warmup=0), start=0), st.recording.watch(model):
                model(ids())
    assert caplog.messages == [expected]


def test_compiled_layers_are_counted():
    model = plain()
    for layer in model.model.layers:
        layer.compile(backend="eager")
    assert st.patching.compiled(model) == ["LlamaDecoderLayer"] * LAYERS
    assert st.patching.compiled(plain()) == []
