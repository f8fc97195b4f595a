"""Prompts with references: the bundled tasks, anybody's JSON lines, and published sets as they are distributed."""

from .lines import read
from .published import PUBLISHED, published
from .shelf import bundled, names
from .task import SCORES, Example, Task, number

__all__ = ["PUBLISHED", "SCORES", "Example", "Task", "bundled", "names", "number", "published", "read"]
