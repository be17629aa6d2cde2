"""Prediction: batches through `predict_step`, and what it returns, kept on the CPU."""

from typing import Any

import torch
from torch import Tensor

from lx.batch import map_tensors
from lx.data.combined import CombinedLoader
from lx.data.source import Batches
from lx.kernel.errors import SIGTERMException
from lx.loops.evaluate import check_signature, evaluating, no_gradients, step_arguments
from lx.loops.progress import BatchProgress
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
        self.progress = BatchProgress()
        module = trainer.lightning_module
        self._step = trainer.dispatch.timed(bind_step(trainer, "predict_step"), module, "LightningModule", "predict_step")

    def run(self) -> Any:
        """Runs the prediction; one list of outputs for one loader, a list of lists for several, None if nothing is kept."""
        trainer, dispatch = self._trainer, self._trainer.dispatch
        if not trainer.limits.limit_predict_batches:
            return [] if self._keep else None
        loaders: CombinedLoader = trainer.loaders.evaluation(trainer.source.request("predict"), "predict")
        trainer.predict_dataloaders = loaders
        each = loaders.flattened
        counts = [trainer.loaders.count(loader, "limit_predict_batches", trainer.limits.limit_predict_batches) for loader in each]
        trainer.num_eval_batches = trainer.num_predict_batches = counts
        check_signature(trainer.lightning_module.predict_step, "predict_step", len(each))
        kept: list[list[Any]] = [[] for _ in each]
        self.progress.begin()
        trainer.log.begin_stage({}, training=False)
        with no_gradients(trainer), evaluating(trainer, "on_predict_model_eval", "on_predict_model_train"):
            dispatch.emit("on_predict_start")
            dispatch.emit("on_predict_epoch_start")
            for dataloader_idx, (loader, count) in enumerate(zip(each, counts, strict=True)):
                if count:
                    batches = dispatch.fetched(iter(loader), "[_PredictionLoop].predict_next")
                    self._run_loader(batches, count, dataloader_idx, len(each) > 1, kept[dataloader_idx])
            dispatch.emit("on_predict_epoch_end")
            dispatch.emit("on_predict_end")
        if not self._keep:
            return None
        return kept[0] if len(kept) == 1 else kept

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
                raise SIGTERMException(143)


def _to_cpu(tensor: Tensor) -> Tensor:
    return tensor.to(torch.device("cpu"))
