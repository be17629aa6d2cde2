"""What is put back when a run goes back to a checkpoint while it trains."""

from typing import Any

from lx.checkpoints import protocol
from lx.loops.steps import discard_gradients


def restore_all(trainer: Any, content: dict[str, Any]) -> None:
    """Brings everything to where a checkpoint was written; what was logged since then of the running epoch is forgotten.

    On every rank. Loggers keep what they got, and get the values that come again.
    """
    log, loop = trainer.log, trainer.fit_loop
    log.site = log.dataloader_idx = None
    log.end_epoch()
    trainer.train_meters.clear()
    log.begin_stage(trainer.train_meters, training=True)
    log.published.clear()
    discard_gradients(trainer.optimizers)
    if trainer.limits.reload_dataloaders_every_n_epochs:
        loop.data.forget()  # the loader may be that of a later epoch
    trainer.should_stop = False
    protocol.restore_model(trainer, content)
    protocol.restore_precision(trainer, content)
    protocol.restore_training(trainer, content)
