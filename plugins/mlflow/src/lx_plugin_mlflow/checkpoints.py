"""The checkpoints of a run as artifacts."""

import os
from typing import Any

from lx.hparams.file import dump_yaml

_SETTINGS = ("monitor", "mode", "save_last", "save_top_k", "save_weights_only", "every_n_train_steps", "every_n_epochs")


class Checkpoints:
    """Hands the files that a checkpoint callback keeps to MLflow, each one once in the state that it is in.

    Of a checkpoint `epoch=0-step=9.ckpt` the artifacts are `epoch=0-step=9/epoch=0-step=9.ckpt`, `aliases.txt` and `metadata.yaml`
    in the same folder.
    """

    def __init__(self) -> None:
        self._logged: dict[str, float] = {}  # path: when it had been written

    def log(self, callback: Any, client: Any, run_id: str) -> None:
        """Logs what is new or has changed since, oldest first."""
        found = {path: os.path.getmtime(path) for path in _kept(callback)}
        new = sorted((path for path in found if self._logged.get(path) != found[path]), key=found.__getitem__)
        newest = max(found, key=found.__getitem__, default="")
        for path in new:
            self._logged[path] = found[path]
            folder = os.path.splitext(os.path.basename(path))[0]
            if os.path.isdir(path):
                client.log_artifacts(run_id, path, f"{folder}/{os.path.basename(path)}")
            else:
                client.log_artifact(run_id, path, folder)
            aliases = ["latest"] * (path == newest) + ["best"] * (path == callback.best_model_path)
            client.log_text(run_id, str(aliases), f"{folder}/aliases.txt")
            client.log_text(run_id, dump_yaml(_described(callback, path)), f"{folder}/metadata.yaml")


def _kept(callback: Any) -> list[str]:
    """The checkpoints that are there; a link names one that is among the others."""
    paths = {callback.best_model_path, callback.last_model_path, *callback.best_k_models}
    return [path for path in paths if path and os.path.exists(path) and not os.path.islink(path)]


def _described(callback: Any, path: str) -> dict[str, Any]:
    score = callback.best_k_models.get(path, callback.current_score if path == callback.last_model_path else None)
    settings = {name: getattr(callback, name) for name in _SETTINGS if hasattr(callback, name)}
    return {"score": None if score is None else float(score), "original_filename": os.path.basename(path), "Checkpoint": settings}
