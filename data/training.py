"""The training run behind ``train_demo``: model, schedule and loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from data.dynamics import due, snapshot, texts
from data.export import export
from data.state import Run, Settings, load_checkpoint, save_checkpoint
from data.tokens import batches, train_tokenizer
from data.world import document
from data.world.home import answered, world
from data.world.people import pick

log = logging.getLogger("data.training")
LOG_EVERY = 25  # steps whose mean loss makes one line of the log
VALIDATE_EVERY = 500  # steps between validation losses
VALIDATION_TEXTS = 24  # per kind
VALIDATION_KINDS = ("entry", "story", "problem", "article", "conversation", "entailment")


def config_of(settings: Settings, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """The architecture; ``init_seed`` is what rebuilds the untrained model."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden,
        intermediate_size=settings.intermediate,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=settings.context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
        init_seed=settings.seed,
    )


def initial(config: LlamaConfig) -> nn.Module:
    """The untrained model of a configuration: its own seed, and nobody else's random numbers touched."""
    with torch.random.fork_rng():
        torch.manual_seed(config.init_seed)
        return AutoModelForCausalLM.from_config(config)


def learning_rate(progress: float, settings: Settings) -> float:
    """Linear warm-up to the peak, then a half cosine down to a hundredth of it."""
    if progress < settings.warmup:
        return settings.learning_rate * max(progress / settings.warmup, 1e-3)
    done = min(1.0, (progress - settings.warmup) / (1 - settings.warmup))
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def optimizer_of(model: nn.Module, settings: Settings) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices, none on the norms' scales."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    scales = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": scales, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.95), fused=True)


def precision(device: torch.device):
    """Bf16 autocast where the device computes in it, otherwise nothing."""
    native = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.backends.mkldnn.is_available()
    return torch.autocast(device.type, torch.bfloat16) if native else nullcontext()


def loss_of(model: nn.Module, ids: torch.Tensor, *, ignore: int = -100) -> torch.Tensor:
    """Mean next-token loss in nats; ids are [row, position + 1]."""
    with precision(ids.device):
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits  # [row, position, vocabulary]
    return nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), ignore_index=ignore)


@torch.no_grad()
def validation_losses(
    model: nn.Module, tokenizer: PreTrainedTokenizerFast, settings: Settings, device: torch.device
) -> dict[str, float]:
    """Loss per token on a few held-back texts of each kind, in nats; "question": about those of whom none was read."""
    losses = {}
    for i, kind in enumerate((*VALIDATION_KINDS, "question")):
        rng = np.random.default_rng([settings.seed, 3, i])
        told = [_held_back(rng, kind) for _ in range(VALIDATION_TEXTS)]
        ids = tokenizer(told, padding=True, padding_side="right", truncation=True, max_length=settings.context + 1)
        ids = torch.tensor(ids["input_ids"], device=device)  # [text, position + 1]; causal, so padding after is unseen
        losses[kind] = loss_of(model, ids, ignore=tokenizer.pad_token_id).item()
    return losses


def _held_back(rng: np.random.Generator, kind: str) -> str:
    if kind == "question":
        return answered(rng, pick(rng, world().held_out))
    return document(rng, "validation", kind).text


def train(
    settings: Settings,
    *,
    device: torch.device,
    out: Path,
    checkpoint: Path,
    after_step: Callable[[Run], None] = lambda run: None,
    progress: bool = True,
) -> Run:
    """Train to the end of the schedule, export the model to ``out`` and delete the checkpoint."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    tokenizer = train_tokenizer(settings.vocabulary, seed=settings.seed)
    config = config_of(settings, tokenizer)
    model = initial(config).to(device).train()
    optimizer = optimizer_of(model, settings)
    run = load_checkpoint(checkpoint, model, optimizer, settings)
    log.info("%s, %d parameters, from step %d", device, sum(p.numel() for p in model.parameters()), run.step)
    with tqdm(total=settings.tokens, initial=run.tokens, unit="tok", unit_scale=True, disable=not progress) as bar:
        try:
            _loop(model, optimizer, tokenizer, run, settings, device, checkpoint, after_step, bar)
        except KeyboardInterrupt:
            save_checkpoint(checkpoint, model, optimizer, run, settings)
            raise
    export(out, model=model, tokenizer=tokenizer, settings=settings, run=run)
    checkpoint.unlink(missing_ok=True)
    return run


def _loop(model, optimizer, tokenizer, run: Run, settings: Settings, device, checkpoint: Path, after_step, bar) -> None:
    started, saved = time.perf_counter() - run.seconds, time.perf_counter()
    measured, stream = texts(tokenizer, settings, device), _stream(tokenizer, run.step, settings)
    while run.progress(settings) < 1:
        if due(run, settings):
            run.dynamics += snapshot(model, measured, run)
        ids = next(stream).to(device, non_blocking=True)  # [row, position + 1]
        rate = learning_rate(run.progress(settings), settings)
        run.pending.append(_update(model, optimizer, ids, rate, settings.clip))
        run.step, run.tokens, run.seconds = run.step + 1, run.tokens + ids[:, 1:].numel(), time.perf_counter() - started
        bar.update(ids[:, 1:].numel())
        if run.step % LOG_EVERY == 0 or run.progress(settings) >= 1:
            _note(model, tokenizer, run, settings, device, rate, bar)
        after_step(run)
        if time.perf_counter() - saved > 60 * settings.checkpoint_minutes:
            save_checkpoint(checkpoint, model, optimizer, run, settings)
            saved = time.perf_counter()
    run.dynamics += snapshot(model, measured, run)


def _stream(tokenizer, step: int, settings: Settings) -> Iterator[torch.Tensor]:
    sizes = {"tokens": settings.batch_tokens, "context": settings.context, "row": settings.row}
    return batches(tokenizer, seed=settings.seed, start=step, workers=settings.workers, **sizes)


def _update(model: nn.Module, optimizer: torch.optim.Optimizer, ids: torch.Tensor, rate: float, clip: float) -> float:
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss = loss_of(model, ids)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def _note(model, tokenizer, run: Run, settings: Settings, device: torch.device, rate: float, bar) -> None:
    """One line of the log: the mean loss since the last one, and now and then the validation losses."""
    line = {"step": run.step, "tokens": run.tokens, "seconds": round(run.seconds, 1), "learning_rate": rate}
    line["loss"] = sum(run.pending) / len(run.pending)
    if run.step % VALIDATE_EVERY == 0 or run.progress(settings) >= 1:
        line |= validation_losses(model, tokenizer, settings, device)
        bar.write("  ".join(f"{key} {value:.4g}" for key, value in line.items()))
    run.lines.append(line)
    run.pending.clear()
    bar.set_postfix(loss=f"{line['loss']:.3f}", refresh=False)
