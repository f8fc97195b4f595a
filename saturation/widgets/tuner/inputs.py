"""The inputs of a tuner: prompts, a trace of the model, and a first policy."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel

from ...anatomy import find_blocks
from ...policies import FFNSkip, cold_regions
from ...policies.policy import dense
from ...progress import bar
from ...quality.conversations import transcript
from ...recording.texts import listed
from ...tasks import Example, Task
from ...trace import Trace
from ..prediction import Predictor
from .session import Session
from .state_run import Bench
from .states import Asked


def asked_of(
    prompts: Task | str | Sequence[str] | None,
    room: int | None,
    shown: int,
    examples: int,
    chat: bool,
    session: Session | None,
) -> Asked:
    """The checked prompts, task and options of a tuner; those of the session where no prompts are given."""
    if prompts is None:
        if session is None:
            raise ValueError("expected a task or prompts to tune on, got none; name some, or a session")
        return asked_as(session.asked, chat)
    if isinstance(prompts, Task):
        task = prompts.head(examples)
        texts = tuple(_opening(example, task, chat) for example in task.head(shown))
        own = task.max_new_tokens if task.score != "text" else 48
        asked = Asked(texts, task, own if room is None else room, chat)
    else:
        texts = (prompts,) if isinstance(prompts, str) else tuple(prompts)
        asked = Asked(texts[:shown], None, 48 if room is None else room, chat)
    if not asked.prompts:
        raise ValueError("expected at least one prompt to tune on, got none; name a text, several, or a task")
    listed(asked.prompts)
    if asked.max_new_tokens < 1:
        raise ValueError(f"expected max_new_tokens of at least 1, got {asked.max_new_tokens}; the model has to write")
    if session is not None and asked_as(session.asked, chat) != asked:
        raise ValueError(
            "expected the prompts, task and options that the session was saved with, got others; leave them out to "
            "take the session's"
        )
    return asked


def chats(
    tokenizer: Any, prompts: Task | str | Sequence[str] | None, trace: Trace | None, session: Session | None
) -> bool:
    """Whether prompts are wrapped in the chat template by default: texts and conversations are, as a user's words.

    The prompts of other tasks have their own form ("Question: ... Answer:"). A session or a trace keeps its own way.
    """
    if session is not None:
        return session.asked.chat
    if trace is not None:
        return bool(trace.provenance.get("chat", False))
    words = prompts.score == "conversation" if isinstance(prompts, Task) else True
    return words and templated(tokenizer)


def templated(tokenizer: Any) -> bool:
    """Whether a tokenizer has a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def asked_as(asked: Asked, chat: bool) -> Asked:
    """The same prompts and options, with or without the chat template."""
    task, prompts = asked.task, asked.prompts
    if task is not None and task.score == "conversation":
        prompts = tuple(_opening(example, task, chat) for example in task.head(len(prompts)))
    return replace(asked, chat=chat, prompts=prompts)


def _opening(example: Example, task: Task, chat: bool) -> str:
    """The prompt of an example: as `quality.evaluate` asks it, or the first twelve words of a text to read."""
    if task.score == "conversation" and not chat:
        return transcript(example, ())
    return example.prompt or " ".join(example.text.split()[:12])


def recorded(bench: Bench) -> Trace:
    """Record the dense model on the prompts under a progress bar; interrupting the cell cancels."""
    left = len(bench.asked.prompts) * bench.asked.max_new_tokens
    with bar(total=left, desc="recording the dense model (interrupt cancels)", unit=" tokens") as going:

        def one_more(prompt: int, token: int) -> None:
            nonlocal left
            left -= 1
            going.update(1)

        found = bench.record(one_more)
        going.update(left)  # tokens not written because texts ended early
    return found


def checked(trace: Trace, model: PreTrainedModel, name: str) -> Trace:
    """Return the trace, after checking that it is a dense one of this model."""
    if trace.model != name:
        raise ValueError(
            f"expected a trace of the model {name!r}, got one of {trace.model!r}; record one, or leave trace= out"
        )
    dense(trace)
    layers = len(find_blocks(model))
    if trace.layers != layers:
        raise ValueError(
            f"expected a trace of all {layers} layers of {name!r}, got one of {trace.layers}; record one of this model"
        )
    return trace


def first_policy(predictor: Predictor, asked: Asked) -> FFNSkip:
    """FFN-SkipLLM at a tenth of the FFNs, between the cold regions, with the paper's warm-up for longer texts."""
    policy = FFNSkip(0.999, warmup=25 if asked.max_new_tokens > 50 else 0, layers=predictor.trace.layers)
    with suppress(ValueError):  # no token past the sink, so no cold regions to find
        start, end = cold_regions(predictor.trace)
        policy = replace(policy, cold_start=start, cold_end=end)
    with suppress(ValueError):  # no token decoded past the warm-up and the sink
        return predictor.fitted(policy, ratio=0.1)
    return policy
