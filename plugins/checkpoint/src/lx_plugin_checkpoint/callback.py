"""ModelCheckpoint: which events make a checkpoint due, and the order in which files are written and removed."""

import os
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Literal

from torch import Tensor

from lx.interfaces import Checkpoint
from lx.kernel.errors import ArgumentTypeError, MisconfigurationException
from lx.rank_zero import rank_zero_info, rank_zero_warn
from lx.urls import is_url, join, require_path
from lx_plugin_checkpoint import files
from lx_plugin_checkpoint.file_names import check_template, fill_template, find_named, nameable_metrics, new_path, settled
from lx_plugin_checkpoint.top_k import MODES, admits, as_score, make_room, standing, worst_value
from lx_plugin_checkpoint.triggers import Countdown, epoch_is_due, is_idle, no_value, read_triggers, saves_at_epoch_end, waits_for_value


class ModelCheckpoint(Checkpoint):
    """Saves checkpoints while `fit` runs: every epoch, every n steps or every so often; the best k of them, all of them, or the last.

    It acts at the end of the training epoch, or of a validation run where that is when values come: with `val_check_interval` other
    than 1.0, `check_val_every_n_epoch` other than 1, or validation by time. Without a step or time trigger it listens to no batch.
    Every rank takes part. The old file is removed when the new one has been written. Nothing is saved in `fast_dev_run`.

    When a signal such as SIGTERM ends the run, what has been trained since the last save is saved, too: as `last.ckpt` with `save_last`, or
    else as `interrupted.ckpt`, which a run that went on from it, saved newer ones and came to its end removes.

    Args:
        dirpath: A folder, or a URL that the checkpoint I/O reaches, such as `s3://bucket/runs`; by default `checkpoints` in the folder of
            the first logger's run, or in `default_root_dir`.
        filename: A template of metrics, `"{epoch}-{val_loss:.2f}"`; by default `"{epoch}-{step}"`. A metric that is not there counts as 0.
        monitor: The logged value by which checkpoints are ranked; None: the newest is the best.
        verbose: Whether each save is reported to the logger `lx`, at level INFO.
        save_last: True: `last.ckpt` is written with each checkpoint that is saved; with `save_top_k=0`, alone, whenever one is due.
            `"link"`: it is a relative link to the newest one, in a local folder. If training has saved nothing, it is written at the end.
        save_top_k: How many of the best are kept: -1 is all, 0 none; more than 1 needs `monitor`.
        save_on_exception: Whether a checkpoint is written when training fails or is interrupted.
        save_weights_only: Whether optimizers, schedulers and callbacks are left out, so that training cannot be resumed from it.
        mode: `"min"` or `"max"`: whether a lower or a higher value of `monitor` is better.
        auto_insert_metric_name: Whether a field becomes `name=value`; False for names with `/` in them.
        every_n_train_steps: Save when the number of optimizer steps is a multiple of it; also as `"100st"`. Where a validation run
            comes next and `monitor` is set, or `monitor` has not been logged yet, the checkpoint is written when that run ends.
        train_time_interval: Save after a batch when so much time has passed: `"30min"`, a timedelta, `"DD:HH:MM:SS"`, or
            `{"minutes": 5}`.
        every_n_epochs: Save when the number of epochs is a multiple of it; also as `"2ep"`; 0: never. 1 if none of the three is given.
        save_on_train_epoch_end: True: save at the end of the training epoch; False: of a validation run; None: as said above.
        enable_version_counter: Whether a file that is not ours to replace makes the name end in `-v1`, `-v2`, ...

    Raises:
        MisconfigurationException: at once for arguments that are wrong or exclude each other; when a checkpoint is due for a `monitor`
            that was never logged, though a validation run has ended.
        ValueError: in `setup`, for `save_last="link"` where the folder is a URL.

    >>> ModelCheckpoint(monitor="val_loss", filename="{epoch}-{val_loss:.2f}").format_checkpoint_name({"epoch": 2, "val_loss": 0.5})
    'epoch=2-val_loss=0.50.ckpt'
    """

    CHECKPOINT_JOIN_CHAR = "-"
    CHECKPOINT_EQUALS_CHAR = "="
    CHECKPOINT_NAME_LAST = "last"
    CHECKPOINT_NAME_INTERRUPTED = "interrupted"
    FILE_EXTENSION = ".ckpt"
    STARTING_VERSION = 1

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        monitor: str | None = None,
        verbose: bool = False,
        save_last: bool | Literal["link"] | None = None,
        save_top_k: int = 1,
        save_on_exception: bool = False,
        save_weights_only: bool = False,
        mode: str = "min",
        auto_insert_metric_name: bool = True,
        every_n_train_steps: int | str | None = None,
        train_time_interval: timedelta | str | dict[str, float] | None = None,
        every_n_epochs: int | str | None = None,
        save_on_train_epoch_end: bool | None = None,
        enable_version_counter: bool = True,
    ) -> None:
        if mode not in MODES:
            raise MisconfigurationException(f"mode={mode!r}: it must be 'min' or 'max'.")
        if isinstance(save_top_k, bool) or not isinstance(save_top_k, int) or save_top_k < -1:
            raise MisconfigurationException(f"save_top_k={save_top_k!r}: it must be -1 (all), 0 (none) or a number of checkpoints to keep.")
        if not isinstance(monitor, str | None):
            raise MisconfigurationException(f"monitor={monitor!r}: it must be the name of a logged value, such as 'val_loss', or None.")
        if monitor is None and save_top_k not in (-1, 0, 1):
            raise MisconfigurationException(f"save_top_k={save_top_k!r} needs monitor=..., the logged value that says which are the best.")
        if save_last not in (None, True, False, "link"):
            raise MisconfigurationException(f"save_last={save_last!r}: it must be True, False, None or 'link'.")
        require_path("dirpath", dirpath)
        if not isinstance(filename, str | None):
            raise ArgumentTypeError(f"filename={filename!r}: it must be text, such as '{{epoch}}-{{val_loss:.2f}}', or None.")
        check_template(filename or "")
        triggers = read_triggers(every_n_train_steps, train_time_interval, every_n_epochs)
        self.every_n_train_steps = triggers.every_n_train_steps
        self.every_n_epochs = triggers.every_n_epochs
        self.train_time_interval = triggers.train_time_interval
        self.dirpath = None if dirpath is None else settled(dirpath)
        self.filename = filename
        self.monitor = monitor
        self.verbose = verbose
        self.save_last = save_last
        self.save_top_k = save_top_k
        self.save_on_exception = save_on_exception
        self.save_weights_only = save_weights_only
        self.mode = mode
        self.auto_insert_metric_name = auto_insert_metric_name
        self.save_on_train_epoch_end = save_on_train_epoch_end
        self.enable_version_counter = enable_version_counter

        self.best_k_models: dict[str, Tensor] = {}
        self.best_model_path = ""
        self.best_model_score: Tensor | None = None
        self.current_score: Tensor | None = None
        self.kth_best_model_path = ""
        self.kth_value = worst_value(mode)
        self.last_model_path = ""

        self._listens_per_batch = triggers.per_batch
        self._countdown = None if triggers.train_time_interval is None else Countdown(triggers.train_time_interval)
        self._training = False
        self._validated = False  # a missing `monitor` is an error from then on
        self._deferred = False  # a checkpoint is due, and waits for values
        self._seen_step = 0
        self._saved_step = 0
        self._saved_any = False
        self._newest = ""  # that holds all that a run needs to go on
        self._resumed_from = ""

    @property
    def state_key(self) -> str:
        """The class and what makes one ModelCheckpoint different from another; Lightning's files have the same."""
        arguments = {
            "monitor": self.monitor,
            "mode": self.mode,
            "every_n_train_steps": self.every_n_train_steps,
            "every_n_epochs": self.every_n_epochs,
            "train_time_interval": self.train_time_interval,
        }
        return f"{type(self).__qualname__}{arguments!r}"

    def listens_to(self, event: str) -> bool:
        """Batches only with a step or time trigger, unless a subclass has its own code for them."""
        if event == "on_train_batch_end" and type(self).on_train_batch_end is ModelCheckpoint.on_train_batch_end:
            return self._listens_per_batch
        return super().listens_to(event)

    # -- when ------------------------------------------------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Settles the folder, the same on every rank, and notes which file the run is resumed from."""
        folder = self.dirpath = trainer.strategy.broadcast(self.dirpath or files.run_folder(trainer))
        if self.save_last == "link" and is_url(folder):
            raise ValueError(f"ModelCheckpoint(save_last='link'): there are no links in the URL {folder!r}; save_last=True writes a file.")
        self._resumed_from = settled(trainer.ckpt_path) if stage == "fit" and trainer.ckpt_path else ""
        anew = stage == "fit" and self.save_top_k != 0 and not self._resumed_from
        if anew and trainer.strategy.require_checkpoint_io().list_folder(folder):
            rank_zero_warn(f"ModelCheckpoint saves to {folder}, which is not empty.")

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Starts the clock, and takes the step from which training goes on as saved, if that was done here."""
        self._training = True
        self._saved_any = self._validated = self._deferred = False
        self._seen_step = trainer.global_step
        own = (self.best_model_path, self.last_model_path, *self.best_k_models)
        saved_here = not self._resumed_from or self._resumed_from in map(settled, filter(None, own))
        self._saved_step = self._seen_step if saved_here else 0
        self._newest = self._resumed_from
        if self._countdown is not None:
            self._countdown.start()
        if self.save_on_train_epoch_end is False and self.every_n_epochs and not trainer.enable_validation:
            rank_zero_warn("ModelCheckpoint(save_on_train_epoch_end=False) saves when a validation run ends, and this fit has none.")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Saves if the step or time trigger says so; within an accumulation window the step is the same, and nothing happens."""
        step = trainer.global_step
        if step == self._seen_step:
            return
        self._seen_step = step
        if self._countdown is not None:
            due = self._countdown.due(trainer.strategy)
        else:
            due = self.every_n_train_steps > 0 and step % self.every_n_train_steps == 0
        if not due or is_idle(trainer, self._saved_step):
            return
        if self.save_top_k != 0 and waits_for_value(trainer, self.monitor, batch_idx):
            self._deferred = True
        else:
            self._save(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Saves what waited for a value, and what is due by epochs where that is done here."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._validated = True
        # What is still missing may be a value of the whole training epoch, which comes at its end.
        waited = self._deferred and self.monitor in trainer.callback_metrics
        by_epoch = epoch_is_due(trainer, self.every_n_epochs) and not saves_at_epoch_end(trainer, self.save_on_train_epoch_end)
        if (waited or by_epoch) and not is_idle(trainer, self._saved_step):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Saves what is due by epochs where that is done here, and what still waits for a value."""
        by_epoch = epoch_is_due(trainer, self.every_n_epochs) and saves_at_epoch_end(trainer, self.save_on_train_epoch_end)
        if (self._deferred or by_epoch) and not is_idle(trainer, self._saved_step):
            self._save(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Writes the last checkpoint, if one is wanted and training has saved none."""
        self._training = False
        if self.save_last and not self._saved_any and not is_idle(trainer, self._saved_step):
            self._keep(trainer, nameable_metrics(trainer))
        folder, name = os.path.split(self._resumed_from)
        if self._newest != self._resumed_from and folder == self.dirpath and self._interrupted_among([name]):
            trainer.strategy.remove_checkpoint(self._resumed_from)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Writes a checkpoint beside the ranked ones, if that is wanted and training had begun."""
        training, self._training = self._training, False
        if self.save_on_exception and training and not is_idle(trainer, self._saved_step):
            metrics = nameable_metrics(trainer)
            self._keep(trainer, metrics, new_path(self, trainer, metrics, self.filename))

    def rescue(self, trainer: Any) -> str:
        """Saves beside the ranked ones when a signal ends the run, if there is anything that the newest one does not hold."""
        if not self._training or self.save_weights_only:
            return ""
        saved_step = self._saved_step if not trainer.open_window and self._newest else -1
        if is_idle(trainer, saved_step) or not trainer.fit_loop.progress.batch.total_ready:
            return self._newest
        metrics = nameable_metrics(trainer)
        if self.save_last:
            self._keep(trainer, metrics)
        else:
            self._write(trainer, new_path(self, trainer, metrics, self.CHECKPOINT_NAME_INTERRUPTED, self._resumed_from))
        return self._newest

    # -- what ------------------------------------------------------------------------------------------------------------

    def _save(self, trainer: Any) -> None:
        """All that a due checkpoint leads to: it is ranked, written and linked to, and those whose place it takes are removed."""
        self._deferred = False
        metrics = nameable_metrics(trainer)
        if self.save_top_k == 0:
            if self.save_last:  # with nothing beside it, this is what a run that crashed can go on from, so it keeps up
                self._keep(trainer, metrics)
            return
        if self.monitor is not None and self.monitor not in metrics:
            no_value(self.monitor, metrics, self._validated)
            return
        path, removed = self._rank(trainer, metrics)
        if path:
            self._keep(trainer, metrics, path, removed)

    def _keep(self, trainer: Any, metrics: dict[str, Any], path: str = "", removed: Sequence[str] = ()) -> None:
        """Writes a checkpoint, if there is a path for one, and the last one; then removes those whose place they take.

        Both are named first, so that the state in the file tells a resumed run which `last` is its own.
        """
        old = self.last_model_path
        if self.save_last:
            self.last_model_path = new_path(self, trainer, metrics, self.CHECKPOINT_NAME_LAST, old)
        if path:
            self._write(trainer, path)
        linked = path and self.save_last == "link"
        if linked:  # before the target of the old link goes
            files.link_when_written(trainer, self.last_model_path, path)
            trainer.strategy.barrier("ModelCheckpoint.link")
        for gone in removed:
            if gone != path:
                files.remove(trainer, gone, self.dirpath or "", self._resumed_from)
        if self.save_last and not linked:
            self._write(trainer, self.last_model_path)
        if old != self.last_model_path:
            files.remove(trainer, old, self.dirpath or "", self._resumed_from)

    def _rank(self, trainer: Any, metrics: dict[str, Any]) -> tuple[str, list[str]]:
        """The path of the checkpoint to be written, empty if it is not among the best, and the paths of those that it replaces."""
        if self.monitor is None:
            old = self.best_model_path
            self.best_model_path = new_path(self, trainer, metrics, self.filename, old)
            return self.best_model_path, [old] if self.save_top_k == 1 else []
        book = self.best_k_models
        score = as_score(metrics[self.monitor], self.mode)
        if not trainer.strategy.reduce_boolean_decision(admits(book, score, self.save_top_k, self.mode), all=True):
            return "", []
        removed = make_room(book, self.save_top_k, self.mode)
        path = new_path(self, trainer, metrics, self.filename, removed[-1] if removed else "")
        book.pop(path, None)  # without a version counter a name may come again
        book[path] = self.current_score = trainer.strategy.broadcast(score)
        ranked = standing(book, self.save_top_k, self.mode)
        self.best_model_path, self.best_model_score = ranked.best_path, ranked.best_score
        self.kth_best_model_path = ranked.kth_path
        self.kth_value = worst_value(self.mode) if ranked.kth_score is None else ranked.kth_score
        return path, removed

    def _write(self, trainer: Any, path: str) -> None:
        trainer.save_checkpoint(path, self.save_weights_only)
        self._saved_step = trainer.global_step
        self._saved_any = True
        self._newest = self._newest if self.save_weights_only else path
        if self.verbose:
            rank_zero_info(f"ModelCheckpoint: epoch {trainer.current_epoch}, step {trainer.global_step}: saved {path}")
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(self)

    # -- names -----------------------------------------------------------------------------------------------------------

    def format_checkpoint_name(
        self, metrics: dict[str, Any], filename: str | None = None, ver: int | None = None, prefix: str | None = None
    ) -> str:
        """The path for a checkpoint of these metrics: `filename`, or the callback's own template, filled, in the callback's folder."""
        template = filename or self.filename or self.CHECKPOINT_JOIN_CHAR.join(("{epoch}", "{step}"))
        name = fill_template(template, metrics, insert_names=self.auto_insert_metric_name, equals=self.CHECKPOINT_EQUALS_CHAR)
        parts = [*([prefix] if prefix else []), name, *([f"v{ver}"] if ver is not None else [])]
        return join(self.dirpath or "", self.CHECKPOINT_JOIN_CHAR.join(parts) + self.FILE_EXTENSION)

    def file_exists(self, filepath: str, trainer: Any) -> bool:
        """Whether rank 0 sees a file, directory or link of that path; called on every rank."""
        return bool(trainer.strategy.broadcast(trainer.strategy.require_checkpoint_io().exists(filepath)))

    def find_last(self, trainer: Any) -> set[str]:
        """The `last` and `interrupted` checkpoints in this callback's folder, of any run; `ckpt_path="last"` takes the newest of them."""
        folder = self.dirpath or files.run_folder(trainer)
        names = trainer.strategy.require_checkpoint_io().list_folder(folder)
        last = find_named(names, self.CHECKPOINT_NAME_LAST, self.CHECKPOINT_JOIN_CHAR, self.FILE_EXTENSION)
        return {join(folder, name) for name in last | self._interrupted_among(names)}

    def find_all(self, trainer: Any) -> set[str]:
        """All checkpoints in this callback's folder, or, where none was given, in those of all runs of this trainer's logger.

        Of these, `ckpt_path="auto"` takes the newest good one.
        """
        folders = [self.dirpath] if self.dirpath else files.folders_of_runs(trainer)
        listed = trainer.strategy.require_checkpoint_io().list_folder
        return {join(folder, name) for folder in folders for name in listed(folder) if name.endswith(self.FILE_EXTENSION)}

    def _interrupted_among(self, names: Iterable[str]) -> set[str]:
        return find_named(names, self.CHECKPOINT_NAME_INTERRUPTED, self.CHECKPOINT_JOIN_CHAR, self.FILE_EXTENSION)

    def to_yaml(self, filepath: str | os.PathLike[str] | None = None) -> None:
        """Writes `best_k_models` as YAML, a line for each path with its score; by default to `best_k_models.yaml` in the folder."""
        files.write_scores(filepath or join(self.dirpath or "", "best_k_models.yaml"), self.best_k_models)

    # -- state -----------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The ranking, the paths, and the folder that they belong to."""
        return {
            "monitor": self.monitor,
            "best_model_score": self.best_model_score,
            "best_model_path": self.best_model_path,
            "current_score": self.current_score,
            "dirpath": self.dirpath,
            "best_k_models": dict(self.best_k_models),
            "kth_best_model_path": self.kth_best_model_path,
            "kth_value": self.kth_value,
            "last_model_path": self.last_model_path,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the ranking up again; that of another folder is not ours to replace, and gives `best_model_path` only."""
        self.best_model_path = state_dict["best_model_path"]
        folder = state_dict.get("dirpath", self.dirpath)
        if folder != self.dirpath:
            rank_zero_warn(
                f"ModelCheckpoint saves to {self.dirpath}, and the checkpoint comes from a run that saved to {folder}: of its ranking "
                "only best_model_path is taken up."
            )
            return
        # The tensors may have been saved, and mapped, to another device.
        self.best_k_models = {path: as_score(score, self.mode) for path, score in state_dict.get("best_k_models", {}).items()}
        for name in ("best_model_score", "current_score", "kth_value"):
            if state_dict.get(name) is not None:
                setattr(self, name, as_score(state_dict[name], self.mode))
        self.kth_best_model_path = state_dict.get("kth_best_model_path", "")
        self.last_model_path = state_dict.get("last_model_path", "")
