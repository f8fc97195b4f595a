"""From documents to token ids: the tokenizer, and training batches that are a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from data.world import document

BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
# What data.world.conversations writes: a reply ends like a text does.
CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}Assistant: {{ message['content'] | trim }}{{ eos_token }}\n"
    "{% else %}User: {{ message['content'] | trim }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
LAST_STEP = 10**9
LONG_EVERY = 4  # every fourth step has rows of the full context, so that late positions are trained too


def train_tokenizer(vocabulary: int, *, seed: int, documents: int = 20_000) -> PreTrainedTokenizerFast:
    """A byte-level BPE learned on training documents; a digit is always a token of its own. Adds bos to every text."""
    rng = np.random.default_rng([seed, 1])
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Split(Regex(r" ?\d"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[BOS, EOS, PAD], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator((document(rng).text for _ in range(documents)), trainer)
    bos = (BOS, tokenizer.token_to_id(BOS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[bos]
    )
    return _wrapped(tokenizer)


def _wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT,
        model_input_names=["input_ids", "attention_mask"],
    )


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerFast:
    """The tokenizer that training saved."""
    return PreTrainedTokenizerFast.from_pretrained(folder)


def batch(
    tokenizer: PreTrainedTokenizerFast, *, seed: int, step: int, tokens: int, context: int, row: int
) -> torch.Tensor:
    """The batch of a step, int64 [row, position + 1]: rows of whole documents, the last of each cut at the row's end.

    The documents are drawn afresh for every step from a generator seeded by (seed, step): a run that resumes at
    step n reads what an unbroken run would have read, and no document list bounds how many tokens there are.
    """
    width = context if step % LONG_EVERY == LONG_EVERY - 1 else row
    rng = np.random.default_rng([seed, 2, step])
    rows = [_row(tokenizer, partial(document, rng), width + 1) for _ in range(max(1, tokens // width))]
    return torch.from_numpy(np.stack(rows))  # [row, position + 1]


class _Batches(torch.utils.data.Dataset):
    """The batch of each step, for a loader whose workers draw them ahead."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, **sizes: int) -> None:
        self.tokenizer, self.sizes = tokenizer, sizes

    def __getitem__(self, step: int) -> torch.Tensor:
        return batch(self.tokenizer, step=step, **self.sizes)


def batches(tokenizer: PreTrainedTokenizerFast, *, start: int, workers: int, **sizes: int) -> Iterator[torch.Tensor]:
    """The batches from a step on, in their order; with workers, drawn ahead in as many processes."""
    steps = range(start, LAST_STEP)
    loader = torch.utils.data.DataLoader(
        _Batches(tokenizer, **sizes),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=8 if workers else None,
        generator=torch.Generator(),  # nothing is drawn from it, but without it the global one would be touched
    )
    return iter(loader)


def _row(tokenizer: PreTrainedTokenizerFast, draw, width: int) -> np.ndarray:
    ids: list[int] = []
    while len(ids) < width:
        ids += [*tokenizer(draw().text)["input_ids"], tokenizer.eos_token_id]
    return np.array(ids[:width], dtype=np.int64)
