"""The training run behind ``train_demo``: model, schedule, loop, and a state that survives a kill."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from data.export import export
from data.tokens import batch, train_tokenizer
from data.world import document

log = logging.getLogger("data.training")
LOG_EVERY = 25  # steps whose mean loss makes one line of the log
VALIDATE_EVERY = 250  # steps between validation losses
VALIDATION_TEXTS = 24  # per kind
VALIDATION_KINDS = ("entry", "story", "problem", "article")


@dataclass(frozen=True)
class Settings:
    """Everything that decides what is learned. ``train_demo.HELP`` says what each one means."""

    seed: int = 0
    layers: int = 16
    hidden: int = 128
    intermediate: int = 384
    heads: int = 4
    vocabulary: int = 1280
    context: int = 1024
    row: int = 256
    batch_tokens: int = 1024
    tokens: int = 6_000_000
    minutes: float = 0.0
    learning_rate: float = 2e-3
    warmup: float = 0.04
    weight_decay: float = 0.1
    clip: float = 1.0
    checkpoint_minutes: float = 2.0
    threads: int = 0


@dataclass
class Run:
    """A run in progress: what a checkpoint holds, apart from the weights."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    pending: list[float] = field(default_factory=list)  # losses since the last line of the log
    lines: list[dict[str, float]] = field(default_factory=list)

    def progress(self, settings: Settings) -> float:
        """Share of the schedule that is done, by tokens or, where that is given and sooner, by minutes."""
        timed = self.seconds / (60 * settings.minutes) if settings.minutes else 0.0
        return max(self.tokens / settings.tokens, timed)


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
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.95))


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
    """Loss per token on a few held-back texts of each kind, in nats."""
    losses = {}
    for kind in VALIDATION_KINDS:
        rng = np.random.default_rng([settings.seed, 3, VALIDATION_KINDS.index(kind)])
        texts = [document(rng, "validation", kind).text for _ in range(VALIDATION_TEXTS)]
        ids = tokenizer(texts, padding=True, padding_side="right", truncation=True, max_length=settings.context + 1)
        ids = torch.tensor(ids["input_ids"], device=device)  # [text, position + 1]; causal, so padding after is unseen
        losses[kind] = loss_of(model, ids, ignore=tokenizer.pad_token_id).item()
    return losses


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, run: Run, settings: Settings
) -> None:
    """Write the state beside its place and move it there, so that a kill leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "run": asdict(run)}
    torch.save(state | {"settings": asdict(settings)}, part)
    part.replace(path)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, settings: Settings) -> Run:
    """Go on where a run of the same settings stopped; a new run where there is no checkpoint."""
    if not path.exists():
        return Run()
    state = torch.load(path, map_location="cpu", weights_only=True)
    different = _difference(state["settings"], asdict(settings))
    if different:
        raise ValueError(
            f"expected a checkpoint of a run with these settings, but that of {path} has {different}: "
            "give its settings to go on with it, give another --checkpoint, or delete it to start afresh"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return Run(**state["run"])


def _difference(theirs: dict, ours: dict) -> str:
    keys = [key for key in ours if key not in ("threads", "checkpoint_minutes") and theirs.get(key) != ours[key]]
    return ", ".join(f"{key} {theirs.get(key)} instead of {ours[key]}" for key in keys)


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
    seen = {"lines": run.lines, "seconds": run.seconds, "tokens": run.tokens}
    export(out, model=model, tokenizer=tokenizer, settings=asdict(settings), **seen)
    checkpoint.unlink(missing_ok=True)
    return run


def _loop(model, optimizer, tokenizer, run: Run, settings: Settings, device, checkpoint: Path, after_step, bar) -> None:
    started, saved = time.perf_counter() - run.seconds, time.perf_counter()
    while run.progress(settings) < 1:
        ids = _batch(tokenizer, run.step, settings).to(device, non_blocking=True)  # [row, position + 1]
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


def _batch(tokenizer, step: int, settings: Settings) -> torch.Tensor:
    return batch(
        tokenizer,
        seed=settings.seed,
        step=step,
        tokens=settings.batch_tokens,
        context=settings.context,
        row=settings.row,
    )


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
