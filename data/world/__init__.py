"""A small invented world, made from a seed: who lives in it, what is told about it, and what can be asked.

    words          the vocabulary of the world, as plain lists
    people, towns  who and what there is, their facts, the encyclopedia entries, the questions
    home           the world of a seed, and its factoid questions
    stories        short stories from plots
    problems       one- and two-step sums with their reasoning
    articles       news of three lengths with reference summaries
    conversations  two turns by category, the second depending on the first
    entailment     premise and hypothesis: yes, no or unknown
    corpus         documents of all kinds, drawn for one split: train, calibration, validation or test
    tasks          the evaluation files, as JSON lines
    calibration    files of every kind to calibrate on

``python -m data.world --out data`` writes the task and the calibration files; the same seed gives the same bytes.
"""

from data.world.corpus import KINDS, SHARES, SPLITS, Document, document, split_of
from data.world.home import World, world

__all__ = ["KINDS", "SHARES", "SPLITS", "Document", "World", "document", "split_of", "world"]
