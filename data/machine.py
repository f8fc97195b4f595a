"""What a run or a job was made on."""

from __future__ import annotations

import platform

import torch
import transformers


def machine(device: torch.device) -> dict[str, object]:
    """The device, its name, and the versions that compute on it."""
    cuda = device.type == "cuda"
    return {
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if cuda else platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
