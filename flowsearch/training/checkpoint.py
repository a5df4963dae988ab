"""Two files per trial: `last.pt` continues training, `best.safetensors` (with `config.json`) is the model to keep.

Both are written under another name, synced and renamed, so a reader finds a whole file or none. `last.pt` goes when its
trial has ended, for nothing will ask for it again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from flowsearch.errors import Damaged
from flowsearch.results.store import write_atomically, write_together

LAST, BEST, CONFIG = "last.pt", "best.safetensors", "config.json"


def save_last(directory: Path, state: Mapping[str, Any]) -> None:
    """Everything that training needs to go on.

    Raises:
        OSError: the disk refused; the earlier checkpoint is untouched.
    """
    buffer = io.BytesIO()  # torch itself would not say why a write failed
    torch.save(dict(state), buffer)
    write_atomically(directory / LAST, buffer.getvalue())


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
    """The best model so far, and what built it.

    Raises:
        OSError: the disk refused; the earlier model is untouched.
    """
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in weights.items()}
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    files = {directory / BEST: safetensors.torch.save(tensors), directory / CONFIG: text.encode()}
    write_together(files, lambda: None)


def load_best(directory: Path, device: torch.device) -> dict[str, Tensor]:
    """The weights that `save_best` kept.

    Raises:
        Damaged: the file is missing or is no model.
    """
    try:
        return safetensors.torch.load_file(directory / BEST, device=str(device))
    except (OSError, safetensors.SafetensorError) as error:
        raise Damaged(f"{directory / BEST}: not a readable model ({type(error).__name__})") from error
