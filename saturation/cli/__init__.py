"""The command line: the command `saturation`."""

from . import demo_command as demo_command
from . import doctor as doctor
from . import drawing as drawing
from . import evaluating as evaluating
from . import exporting as exporting
from . import fetching as fetching
from . import pruning as pruning
from . import running as running
from . import studying as studying
from . import sweeping as sweeping
from . import tuning as tuning
from .app import app

__all__ = ["app"]
