"""The bundled conversations as questions: each reply, with the reference replies before it, held against its own."""

from __future__ import annotations

import json

from data.world.conversations import END
from saturation.tasks import Example, Task
from saturation.tasks.bundled_tasks import TASKS

FREE = ("stories",)  # categories whose first reply may be anything


def replies(turn: int) -> Task:
    """The replies to the first (0) or second (1) turn, for exact match."""
    lines = [json.loads(line) for line in (TASKS / "conversations.jsonl").read_text(encoding="utf-8").splitlines()]
    asked = [line for line in lines if turn or line["kind"] not in FREE]
    return Task(f"conversations, turn {turn + 1}", "answer", tuple(_example(line, turn) for line in asked), 48)


def _example(line: dict, turn: int) -> Example:
    before = "".join(
        f"User: {user}\nAssistant: {reply}{END}\n"
        for user, reply in zip(line["turns"][:turn], line["replies"][:turn], strict=True)
    )
    prompt = f"{before}User: {line['turns'][turn]}\nAssistant:"
    return Example(line["id"], line["kind"], prompt, answers=(line["replies"][turn],), stop="\n")
