"""Tasks: prompts with references, from the bundled world, JSON lines, published files or the hub."""

from .bundled_tasks import bundled, names
from .calibration_presets import HUB
from .hub_datasets import hub
from .hub_presets import HubSet
from .json_lines import read
from .published import PUBLISHED, published
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
