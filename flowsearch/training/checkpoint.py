"""Two files per trial: `last.pt` continues training, `best.safetensors` (with `config.json`) is the model to keep.

Both are written under another name, synced and renamed, so a reader finds a whole file or none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from flowsearch.errors import Damaged

LAST, BEST, CONFIG = "last.pt", "best.safetensors", "config.json"


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a temporary file, then put it in place: after a crash there is the old file or the new one."""
    partial = path.with_name(f"_{path.name}")
    write(partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def save_last(directory: Path, state: Mapping[str, Any]) -> None:
    """Everything that training needs to go on."""
    write_whole(directory / LAST, lambda path: torch.save(dict(state), path))


def load_last(directory: Path, device: torch.device) -> dict[str, Any] | None:
    """What `save_last` kept, or None. Tensors and plain values only: nothing in the file is executed.

    Raises:
        Damaged: the file is no checkpoint.
    """
    if not (directory / LAST).exists():
        return None
    try:
        state: dict[str, Any] = torch.load(directory / LAST, map_location=device, weights_only=True)
    except Exception as error:
        raise Damaged(f"{directory / LAST}: not a readable checkpoint ({type(error).__name__})") from error
    return state


def save_best(directory: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """The best model so far, and what built it."""
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in weights.items()}
    write_whole(directory / BEST, lambda path: safetensors.torch.save_file(tensors, path))
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    write_whole(directory / CONFIG, lambda path: path.write_text(text))


def load_best(directory: Path, device: torch.device) -> dict[str, Tensor]:
    """The weights that `save_best` kept.

    Raises:
        Damaged: the file is missing or is no model.
    """
    try:
        return safetensors.torch.load_file(directory / BEST, device=str(device))
    except (OSError, safetensors.SafetensorError) as error:
        raise Damaged(f"{directory / BEST}: not a readable model ({type(error).__name__})") from error
