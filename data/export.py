"""A finished run -> a folder in Hugging Face format, with its training log, loss curve and checksums."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import nn
from transformers import GenerationConfig, PreTrainedTokenizerFast

from data import dynamics, growing, loss_curve
from data.machine import machine
from data.state import Row, Run, Settings

KINDS = ["entry", "story", "problem", "article", "conversation", "entailment", "question"]
COLUMNS = ["step", "tokens", "seconds", "learning_rate", "loss", *KINDS]
SHARD = "15MB"  # of the weights, at most
CHECKSUMS = "SHA256SUMS"


def export(
    out: Path, *, model: nn.Module, tokenizer: PreTrainedTokenizerFast, settings: Settings, run: Run, shard: str = SHARD
) -> None:
    """Write the whole folder beside its place, then put it there: never a half-written model."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as made:
        folder = Path(made) / out.name
        folder.mkdir()
        _weights(folder, model, shard)
        tokenizer.save_pretrained(folder)
        _table(folder / "training_log.csv", COLUMNS, run.lines)
        _table(folder / "dynamics.csv", dynamics.COLUMNS, run.dynamics)
        about = {"settings": asdict(settings), "tokens_seen": run.tokens, "seconds": round(run.seconds, 1)}
        about["made_with"] = machine(next(model.parameters()).device)
        (folder / "training.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        loss_curve.draw(folder / "training_log.csv", folder / "loss_curve.png")
        growing.draw(pd.DataFrame(run.dynamics), folder / "dynamics.png")
        write_checksums(folder)
        _replace(folder, out)


def _weights(folder: Path, model: nn.Module, shard: str) -> None:
    """Weights in bf16 (half the size); the configuration says float32, so that they are loaded as float32."""
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    state = {name: value.detach().to("cpu", torch.bfloat16).contiguous() for name, value in model.state_dict().items()}
    kept = {name: value for name, value in state.items() if name not in tied}
    split = split_torch_state_dict_into_shards(kept, max_shard_size=shard)
    for name, tensors in split.filename_to_tensors.items():
        save_file({tensor: kept[tensor] for tensor in tensors}, folder / name, metadata={"format": "pt"})
        (folder / name).chmod(0o644)  # safetensors writes it for the owner only
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    config = model.config
    ids = {key: getattr(config, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    GenerationConfig(do_sample=False, **ids).save_pretrained(folder)


def _table(path: Path, columns: list[str], lines: list[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for line in lines:
            writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in line.items()})


def write_checksums(folder: Path) -> None:
    """``SHA256SUMS`` of every other file of the folder, as ``sha256sum -c`` reads it."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != CHECKSUMS)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def _replace(folder: Path, out: Path) -> None:
    old = folder.parent / "old"
    if out.exists():
        out.replace(old)
    folder.replace(out)
    shutil.rmtree(old, ignore_errors=True)
