"""Train the demo model on the bundled world: ``python -m data.train_demo``, on CPU or CUDA.

Standard training and nothing else: a LLaMA architecture from transformers, next-token loss, AdamW with weight decay,
a cosine schedule after a linear warm-up, clipped gradients, bf16 autocast where the device has it. A killed run goes
on from its last checkpoint when the same command is given again.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path

import torch

from data.state import Settings
from data.training import train

HERE = Path(__file__).resolve().parent
HELP = {
    "seed": "seed of the initial weights and of the stream of documents",
    "layers": "decoder layers",
    "hidden": "width of the residual stream",
    "intermediate": "width of the feed-forward blocks",
    "heads": "attention heads",
    "vocabulary": "tokens of the byte-level BPE, the 256 bytes included",
    "context": "longest sequence, in tokens",
    "row": "length of a training row, in tokens; every fourth step has rows of the full context",
    "batch_tokens": "tokens per optimiser step",
    "tokens": "tokens to train on; the cosine schedule ends there",
    "minutes": "end the schedule after so many minutes instead, if that is sooner (0: no limit)",
    "learning_rate": "peak learning rate",
    "warmup": "share of the run in which the learning rate rises",
    "weight_decay": "AdamW weight decay, on matrices only",
    "clip": "largest gradient norm",
    "checkpoint_minutes": "minutes between checkpoints",
    "threads": "CPU threads (0: torch's choice)",
    "workers": "processes that draw batches ahead, for a GPU (0: none)",
}


def parser() -> argparse.ArgumentParser:
    """One option per setting, with its default and its meaning."""
    made = argparse.ArgumentParser(
        prog="python -m data.train_demo", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    for field in dataclasses.fields(Settings):
        option = "--" + field.name.replace("_", "-")
        made.add_argument(option, type=type(field.default), default=field.default, help=HELP[field.name])
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda or cuda:N")
    made.add_argument("--out", type=Path, default=HERE / "demo-model", help="folder of the finished model")
    unfinished = HERE.parent / "checkpoints" / "demo.pt"
    made.add_argument("--checkpoint", type=Path, default=unfinished, help="file to go on from after a kill")
    return made


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = vars(parser().parse_args(argv))
    device, out, checkpoint = torch.device(options.pop("device")), options.pop("out"), options.pop("checkpoint")
    train(Settings(**options), device=device, out=out, checkpoint=checkpoint)


if __name__ == "__main__":
    main()
