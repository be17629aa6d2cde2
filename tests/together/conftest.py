"""A Trainer that does nothing but train: no logger, no checkpoints, no bar, no summary, unless a test asks for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lx import Trainer


@pytest.fixture
def bare_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a Trainer on the CPU, with its files in the test's folder; arguments replace those that turn things off."""

    def make(**arguments: Any) -> Trainer:
        off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        return Trainer(**{"accelerator": "cpu", "default_root_dir": tmp_path, **off, **arguments})

    return make
