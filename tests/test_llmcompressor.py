"""Wanda and SparseGPT beside llmcompressor's, matrix by matrix. Skipped where that package is not installed.

Only its files of arithmetic are run: the package as a whole needs another version of transformers.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from saturation.pruning import Pattern
from saturation.pruning.masks import wanda
from saturation.pruning.moments import Moments
from saturation.pruning.weight_updates import sparsegpt

OUTPUTS, INPUTS, TOKENS = 24, 64, 400
PATTERNS = {"0.5": (0.5, 0, 0), "2:4": (0.5, 2, 4), "4:8": (0.5, 4, 8)}  # ours -> share, how many go, of how many


def theirs(file: str) -> ModuleType:
    """A file of llmcompressor as a module of its own."""
    package = importlib.util.find_spec("llmcompressor")
    if package is None or not package.submodule_search_locations:
        pytest.skip("llmcompressor is not installed")
    path = Path(package.submodule_search_locations[0]) / "modifiers" / "pruning" / file
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def given() -> tuple[nn.Linear, torch.Tensor, Moments]:
    """A matrix, correlated inputs that it reads [token, inputs], and our moments of them."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(TOKENS, INPUTS, generator=random) @ torch.randn(INPUTS, INPUTS, generator=random) / 8
    module = nn.Linear(INPUTS, OUTPUTS, bias=False)
    module.weight.data = torch.randn(OUTPUTS, INPUTS, generator=random)
    moments = Moments.empty(INPUTS, x.device, x.dtype)
    moments.add(x)
    return module, x, moments


@pytest.mark.parametrize("pattern", PATTERNS)
def test_wanda_takes_the_same_weights(given, pattern):
    other = theirs("wanda/wanda_sparsify.py")
    module, x, moments = given
    scalars, _ = other.accumulate_row_scalars(x, module, other.make_empty_row_scalars(module), 0)
    expected = other.sparsify_weight(module, {module: scalars}, *PATTERNS[pattern])
    stays = wanda(module.weight.data, moments.norms, _read(pattern))
    assert torch.equal(module.weight.data * stays, expected)


@pytest.mark.parametrize("pattern", ["2:4", "4:8"])
def test_sparsegpt_leaves_the_same_weights(given, pattern):
    """In two blocks of columns."""
    new, stays, expected = _both(given, pattern, columns=32)
    assert torch.equal(stays, expected != 0)
    torch.testing.assert_close(new, expected, rtol=1e-4, atol=1e-5)


def test_sparsegpt_at_a_share_takes_all_but_one_of_the_same_weights(given):
    """Theirs takes the weight at the threshold too: one more of a block, whose row is then another."""
    new, stays, expected = _both(given, "0.5", columns=INPUTS)
    gone = expected == 0
    assert int((~stays).sum()) == OUTPUTS * INPUTS // 2 and int(gone.sum()) == OUTPUTS * INPUTS // 2 + 1
    assert bool((gone | stays).all())
    same = (gone == ~stays).all(1)
    assert int(same.sum()) == OUTPUTS - 1
    torch.testing.assert_close(new[same], expected[same], rtol=1e-4, atol=1e-5)


def _both(given: tuple, pattern: str, columns: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Our weights and mask, and their weights."""
    other = theirs("sparsegpt/sgpt_sparsify.py")
    module, x, moments = given
    hessian, _ = other.accumulate_hessian(x[None], module, other.make_empty_hessian(module), 0)
    torch.testing.assert_close(hessian / TOKENS, moments.hessian, rtol=1e-4, atol=1e-5)
    _, expected = other.sparsify_weight(module, {module: hessian}, *PATTERNS[pattern], columns, 0.01, False)
    found = sparsegpt(module.weight.data, moments.hessian, _read(pattern), damping=0.01, columns=columns)
    return found[0], found[1], expected.detach()


def _read(pattern: str) -> Pattern:
    return Pattern.read(pattern if ":" in pattern else float(pattern))
