"""A fit in a job whose time is over: it is saved, the run ends, and the cluster queues the job again, in which fit goes on."""

from pathlib import Path
from typing import Any

from lx.checkpoints.search import left_by_jobs
from lx.running.signals import cleaning_up
from lx.state import TrainerFn
from lx.urls import join, local_or_url


class Requeue:
    """What a run does when the signal comes that its cluster environment names; nothing where that names none.

    signal                      noted, and told
    batch boundary              where all processes agree, `SIGTERMException` ends the run
    checkpoint                  `hpc_ckpt_<number>.ckpt` in `default_root_dir`
    the rest of the ending      everybody is told and tears down, loggers are finalized as finished
    the job is queued again     on rank 0
    """

    def __init__(self, trainer: Any, fn: TrainerFn) -> None:
        environment = trainer.strategy.cluster_environment
        self._trainer = trainer
        self._environment = environment
        self.signum: int | None = environment.requeues_on if environment is not None and fn is TrainerFn.FITTING else None
        self.asked = False
        """Whether the signal has come."""
        self.report = ""
        """What has come of it, for the line in which the run says how it ended."""
        self._path: Path | str | None = None

    def end_whole(self) -> None:
        """Saves a run that came to its end, and has the job queued again; called on every rank."""
        with cleaning_up(self._trainer) as clean_up:
            clean_up.doing = "saving for the next job"
            self.save()
            self.submit()

    def save(self) -> None:
        """Writes the checkpoint, under the next number; on every rank."""
        self.report = " Nothing was saved, so the job is not queued again."
        trainer = self._trainer
        path = local_or_url(join(trainer.default_root_dir, f"hpc_ckpt_{max(left_by_jobs(trainer), default=0) + 1}.ckpt"))
        path = trainer.strategy.broadcast(path)  # another process may find the file already
        trainer.save_checkpoint(path)
        self._path = path

    def submit(self) -> None:
        """Has the job queued again, once the checkpoint is on disk: what the cluster ends now may end. Without one it would begin anew."""
        trainer = self._trainer
        trainer.strategy.require_checkpoint_io().teardown()
        if self._path is None:
            return
        trainer.strategy.barrier("requeue")
        if not trainer.is_global_zero:
            return
        try:
            told = self._environment.requeue()
        except Exception as error:
            self.report = f" The job is NOT queued again: {error} Submit it again, and it goes on from {str(self._path)!r}."
        else:
            self.report = f" {told} It goes on from {str(self._path)!r}."
