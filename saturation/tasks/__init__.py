"""Prompts with references: the bundled tasks, anybody's JSON lines, published sets as they are distributed, the hub."""

from .calibration_sets import HUB
from .from_hub import hub
from .hubsets import HubSet
from .lines import read
from .published import PUBLISHED, published
from .shelf import bundled, names
from .task import SCORES, Example, Task, number

__all__ = [
    "HUB",
    "PUBLISHED",
    "SCORES",
    "Example",
    "HubSet",
    "Task",
    "bundled",
    "hub",
    "names",
    "number",
    "published",
    "read",
]
