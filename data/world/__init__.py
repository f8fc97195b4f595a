"""A small invented world, made from a seed: who lives in it, what is told about it, and what can be asked.

    words      the vocabulary of the world, as plain lists
    people     persons and towns, their facts, the encyclopedia entries, the questions
    stories    short stories from plots
    problems   one- and two-step sums with their reasoning
    articles   news of three lengths with reference summaries
    corpus     documents of all kinds, drawn for one split: train, calibration, validation or test
    tasks      the evaluation files, as JSON lines

``python -m data.world --out data/tasks`` writes the task files; the same seed gives the same bytes.
"""

from data.world.corpus import KINDS, SHARES, SPLITS, Document, document, split_of
from data.world.people import World, world

__all__ = ["KINDS", "SHARES", "SPLITS", "Document", "World", "document", "split_of", "world"]
