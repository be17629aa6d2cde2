"""Prediction: batches through `predict_step`, and what it returns, kept on the CPU."""

from typing import Any

import torch
from torch import Tensor

from lx.batch import map_tensors
from lx.data.combined import CombinedLoader
from lx.data.source import Batches
from lx.dataloader_iter import handed_to
from lx.loops.evaluate import check_signature, evaluating, no_gradients, step_arguments
from lx.rank_zero import rank_zero_warn
from lx.wrappers import bind_step


class Prediction:
    """A run over all loaders.

    on_predict_model_eval
    on_predict_start
    on_predict_epoch_start
    for each batch of each loader:
        transfer to the device
        on_predict_batch_start
        predict_step
        on_predict_batch_end
    on_predict_epoch_end
    on_predict_end
    """

    def __init__(self, trainer: Any, keep: bool) -> None:
        self._trainer = trainer
        self._keep = keep
        self._loaders: CombinedLoader | None = None
        self.progress = trainer.predict_loop.batch_progress
        module = trainer.lightning_module
        self._step = trainer.dispatch.timed(bind_step(trainer, "predict_step"), module, "LightningModule", "predict_step")

    def run(self) -> Any:
        """Runs the prediction; one list of outputs for one loader, a list of lists for several, None if nothing is kept."""
        trainer, dispatch = self._trainer, self._trainer.dispatch
        if not trainer.limits.limit_predict_batches:
            return [] if self._keep else None
        each, counts = self._load_data()
        self.progress.begin()
        trainer.log.begin_stage({}, training=False)
        with no_gradients(trainer), evaluating(trainer, "on_predict_model_eval", "on_predict_model_train"):
            dispatch.emit("on_predict_start")
            if self._loaders is None:  # a hook of the start has changed the data
                each, counts = self._load_data()
            kept: list[list[Any]] = [[] for _ in each]
            dispatch.emit("on_predict_epoch_start")
            for dataloader_idx, (loader, count) in enumerate(zip(each, counts, strict=True)):
                if count:
                    batches = dispatch.fetched(iter(loader), "[_PredictionLoop].predict_next")
                    batches = handed_to(trainer.lightning_module.predict_step, batches, dataloader_idx)
                    self._run_loader(batches, count, dataloader_idx, len(each) > 1, kept[dataloader_idx])
            dispatch.emit("on_predict_epoch_end")
            dispatch.emit("on_predict_end")
        if not self._keep:
            return None
        return kept[0] if len(kept) == 1 else kept

    def forget_data(self) -> None:
        """Lets go of the loaders, so that they are asked for again; in the hooks of its start."""
        self._loaders = None

    def _load_data(self) -> tuple[list[Any], list[int | float]]:
        """Each loader, and how many of its batches are used."""
        trainer = self._trainer
        self._loaders = trainer.loaders.evaluation(trainer.source.request("predict"), "predict")
        trainer.predict_dataloaders = self._loaders.iterables
        each = self._loaders.flattened
        counts = [trainer.loaders.count(loader, "limit_predict_batches", trainer.limits.limit_predict_batches) for loader in each]
        trainer.num_eval_batches = trainer.predict_loop.max_batches = counts
        check_signature(trainer.lightning_module.predict_step, "predict_step", len(each))
        return each, counts

    def _run_loader(self, batches: Any, count: int | float, dataloader_idx: int, several: bool, kept: list[Any]) -> None:
        trainer, dispatch = self._trainer, self._trainer.dispatch
        batch_start, batch_end = dispatch.on_predict_batch_start, dispatch.on_predict_batch_end
        arguments = step_arguments(trainer.lightning_module.predict_step, dataloader_idx, several)
        which = (dataloader_idx,) if several else ()
        progress = self.progress
        for batch_idx, batch in Batches(batches, count):
            progress.ready += 1
            batch = trainer.transfer(batch, dataloader_idx)
            if batch_start is not None:
                batch_start(batch, batch_idx, *which)
            progress.started += 1
            trainer.log.site = "predict_step"
            output = self._step(batch, *arguments(batch_idx))
            trainer.log.site = None
            progress.processed += 1
            if output is None:
                rank_zero_warn("predict_step returned None.")
            if batch_end is not None:
                batch_end(output, batch, batch_idx, *which)
            progress.completed += 1
            if self._keep:
                kept.append(map_tensors(_to_cpu, output))
            if trainer.received_sigterm:
                trainer.run.termination.end_here()


def _to_cpu(tensor: Tensor) -> Tensor:
    return tensor.to(torch.device("cpu"))
