"""Guard: judges each loss before it is trained on, and does as told about one that is NaN, infinite or a spike."""

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from lx.arguments.limits import count
from lx.checkpoints.position import position
from lx.dataloader_iter import takes_iterator
from lx.interfaces import Callback
from lx.interfaces.precision import Precision
from lx.kernel.errors import LxError, MisconfigurationException, RewindRun
from lx.loops.returned import Skipped
from lx.measures.gradients import grad_norm
from lx.measures.spikes import LossHistory
from lx.rank_zero import rank_zero_info
from lx.running.reading import newest_that
from lx_plugin_guard.kept import Forward
from lx_plugin_guard.record import Place, Record, forget
from lx_plugin_guard.trouble import Trouble

POLICIES = ("stop", "skip", "rewind", "ignore")

Step = Callable[[Any, int], Any]


class Guard(Callback):
    """Looks at each loss before backward, and, where it is bad, stops the run, skips the batch, or goes back to a checkpoint.

    `"stop"` raises `NonFiniteLossError`, `NonFiniteGradientError` or `LossSpikeError`. `"skip"` has the batch contribute nothing: no
    gradient, no value that it logged, no change of a running statistic; a window that holds other batches has their exact mean, and one
    that holds none takes no step, which moves no scheduler. `"rewind"` puts everything back to the newest good checkpoint from before the
    first batch that may be to blame, in the same process, and passes over these batches from then on, also in runs that are resumed.
    On several processes the mean of their losses is judged, so that all do the same. To look at a loss, the run waits for the device.

    Args:
        nonfinite: What to do about a loss that is NaN or infinite: `"stop"`, `"skip"`, `"rewind"` or `"ignore"`.
        spikes: What to do about a loss that is `rtol` times the mean of the last `window` losses above it, or more.
        gradients: Whether gradients that are not finite count as such a loss does; the whole window is then at fault, and skipped.
        rtol: See `spikes`.
        window: See `spikes`.
        warmup: The first losses, which are no spikes.
        margin: So many batches before the bad one are to blame as well when the run goes back; None for all since the checkpoint.
        limit: At most so many batches are skipped, or gone back from, within so many batches; then the run is stopped.

    Raises:
        MisconfigurationException: for anything else; when fit starts, if the run cannot do as told.

    >>> Guard(nonfinite="skip").limit
    (10, 1000)
    """

    def __init__(
        self,
        nonfinite: str = "stop",
        spikes: str = "ignore",
        gradients: bool = False,
        rtol: float = 2.0,
        window: int = 50,
        warmup: int = 100,
        margin: int | None = 10,
        limit: tuple[int, int] = (10, 1000),
    ) -> None:
        for name, policy in (("nonfinite", nonfinite), ("spikes", spikes)):
            if policy not in POLICIES:
                raise MisconfigurationException(f"{name}={policy!r}: it must be one of {', '.join(map(repr, POLICIES))}.")
        if not isinstance(gradients, bool):
            raise MisconfigurationException(f"gradients={gradients!r}: it must be True or False.")
        if not isinstance(limit, tuple | list) or len(limit) != 2:
            raise MisconfigurationException(f"limit={limit!r}: it must be two numbers, such as (10, 1000) for 10 within 1000 batches.")
        if rtol is None:
            raise MisconfigurationException("rtol=None: it must be a number of 0 or more.")
        self.nonfinite, self.spikes, self.gradients = nonfinite, spikes, gradients
        self.margin = None if margin is None else count("margin", margin)
        self.limit = count("limit", limit[0]), count("limit", limit[1], least=1)
        self.history = LossHistory(window, warmup, rtol=rtol)
        self.record = Record()
        self._loss = math.nan
        self._trainer: Any = None
        self._goes_back = self._spoilt = False
        self._left_behind: dict[str, Any] | None = None

    @property
    def actions(self) -> list[dict[str, Any]]:
        """What was done so far, oldest first: `action`, `reason`, `epoch`, `batch_idx`, `step`, and more."""
        return self.record.actions

    def listens_to(self, event: str) -> bool:
        """Gradients are looked at only where that was asked for."""
        return super().listens_to(event) and (self.gradients or event != "on_before_optimizer_step")

    # -- a run -------------------------------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Puts itself around `training_step`; raises `MisconfigurationException` where the run cannot do as told."""
        self._refuse(trainer, pl_module)
        self._trainer = trainer
        outer = trainer.fit_loop.around_step
        trainer.fit_loop.around_step = lambda step: self._guarded(step if outer is None else outer(step))

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Takes up what was decided after the checkpoint that the run goes on from; of a run that begins, nothing is left of one before."""
        path, state = trainer.ckpt_path, self.record.state_dict()
        if path is not None:
            self.record.extend_from(str(path))
            self._left_behind = self.record.left_behind(state, _place(trainer))
        elif trainer.is_global_zero and not trainer.global_step:
            for folder in filter(None, (getattr(callback, "dirpath", None) for callback in trainer.checkpoint_callbacks)):
                forget(folder)
        self.record.load_state_dict(trainer.strategy.broadcast(self.record.state_dict()))
        self._left_behind = trainer.strategy.broadcast(self._left_behind)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Lets go of the run."""
        if stage == "fit":
            trainer.fit_loop.around_step = self._trainer = None

    def _refuse(self, trainer: Any, module: Any) -> None:
        asked = [f"{name}={policy!r}" for name in ("nonfinite", "spikes") if (policy := getattr(self, name)) in ("skip", "rewind")]
        reasons = {
            "automatic_optimization=False: lx does not know what the module's own steps have done": not module.automatic_optimization,
            "a training_step that takes the iterator of the batches": takes_iterator(module.training_step),
            f"{type(trainer.strategy).__name__}, which accumulates gradients itself": trainer.strategy.capabilities.handles_accumulation,
            "micro_batch_size: a part of a batch cannot be skipped": trainer.limits.micro_batch_size is not None and "skip" in str(asked),
        }
        for reason, holds in reasons.items():
            if asked and holds:
                raise MisconfigurationException(f"guard({', '.join(asked)}) does not work with {reason}; leave it at 'stop'.")
        if self.gradients and type(trainer.precision_plugin).scale_loss is not Precision.scale_loss:
            raise MisconfigurationException(
                f"guard(gradients=True) does not work with {type(trainer.precision_plugin).__name__}, which scales the loss, and skips"
                " steps whose gradients overflow by itself; leave it out."
            )

    # -- a step ------------------------------------------------------------------------------------------------------------

    def _guarded(self, step: Step) -> Step:
        trainer, record = self._trainer, self.record
        forward = Forward(step, trainer.lightning_module, trainer.log) if "skip" in (self.nonfinite, self.spikes) else None

        def guarded(batch: Any, batch_idx: int) -> Any:
            if self._left_behind is not None:
                self._return(self._left_behind)
            if record.rewinds and record.passes_over(trainer.current_epoch, batch_idx):
                self._count()
                return Skipped()
            output = step(batch, batch_idx) if forward is None else forward.run(batch, batch_idx)
            if self._passes(output, batch_idx):
                if forward is not None:
                    forward.accept()
                return output
            if forward is not None:
                forward.take_back()
            return Skipped(_loss_in(output))

        return guarded

    def _passes(self, output: Any, batch_idx: int) -> bool:
        """Whether a batch is to be trained on; a step without a loss, or with one that torch refuses, is passed on."""
        loss = _loss_in(output)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            return True
        value, mean = self._value(loss), self.history.mean
        self._loss = value
        if not math.isfinite(value):
            return self._act(self._trouble("loss", batch_idx, value, mean))
        if self.spikes == "ignore":
            self.history.add(value)
        elif self.history.judge(value):
            return self._act(self._trouble("spike", batch_idx, value, mean))
        return True

    def _value(self, loss: Tensor) -> float:
        strategy = self._trainer.strategy
        mine = loss.detach().float()
        return float(mine if self._trainer.world_size == 1 else strategy.all_reduce(mine.clone(), reduce_op="mean"))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Looks at the gradients, if it was asked to; those of the whole model, so that the first optimizer's are with all others."""
        norm = grad_norm(pl_module, "inf").get("grad_inf_norm_total")
        bad = norm is not None and not math.isfinite(float(norm))
        if not trainer.strategy.reduce_boolean_decision(bad, all=False):
            return
        batch_idx = trainer.fit_loop.progress.batch.ready - 1
        held = getattr(trainer.fit_loop.epoch_loop.optimize, "held", 0)
        if not self._act(self._trouble("gradient", batch_idx, self._loss, self.history.mean, held)):
            trainer.fit_loop.epoch_loop.optimize.skip_step()

    def _trouble(self, kind: str, batch_idx: int, loss: float, mean: float, held: int = 0) -> Trouble:
        trainer = self._trainer
        return Trouble(kind, trainer.current_epoch, batch_idx, max(batch_idx - held, 0), trainer.global_step, loss, mean)

    # -- what is done ------------------------------------------------------------------------------------------------------

    def _act(self, trouble: Trouble) -> bool:
        """Does as told; returns whether the batch is trained on all the same."""
        policy = getattr(self, trouble.policy)
        if policy == "ignore":
            return True
        if policy in ("skip", "rewind"):
            most, within = self.limit
            now = self._trainer.fit_loop.progress.batch.total_ready
            recent = sum(action["batches"] > now - within for action in self.actions)
            if recent >= most:
                said = f"The guard has acted {recent} times within {within} batches, and limit={self.limit!r}."
                raise trouble.error(f"{said} {self._advice(trouble)}")
        if policy == "skip":
            self._skip(trouble)
            return False
        if policy == "rewind":
            self._rewind(trouble)
        raise trouble.error(self._advice(trouble))

    def _skip(self, trouble: Trouble) -> None:
        self._note("skip", trouble)
        rank_zero_info(f"guard: {trouble}: {'the step' if trouble.kind == 'gradient' else 'the batch'} is skipped.")
        self._count()

    def _count(self) -> None:
        self.record.skipped += 1
        self._trainer.log_metrics({"guard/skipped_batches": self.record.skipped})

    def _rewind(self, trouble: Trouble) -> None:
        """Goes back, if there is a checkpoint to go back to."""
        found = self._good_before(trouble)
        if found is None:
            return
        path, content = found
        place = _place_in(content)
        first = self._first(trouble)
        if self.margin is None or self._spoilt:
            first = place[1] if place[0] == trouble.epoch else 0
        self._note("rewind", trouble, range=[first, trouble.batch_idx], back_to=list(place), checkpoint=os.path.basename(path))
        if self._trainer.is_global_zero:
            self.record.write(path)
        rank_zero_info(
            f"guard: {trouble}: the run goes back to {path!r}, to batch {place[1]} of epoch {place[0]}, and passes over the batches"
            f" {first} to {trouble.batch_idx} of epoch {trouble.epoch}."
        )
        self._trainer.log_metrics({"guard/rewinds": len(self.record.rewinds)})
        self._goes_back = True
        raise RewindRun(content)

    def _return(self, decision: dict[str, Any]) -> None:
        """Goes back once more: the run was resumed from a checkpoint that had been left behind."""
        back_to = tuple(decision["back_to"])
        found = newest_that(self._trainer.run, lambda path, content: self._is_good(content, back_to))
        if found is None:
            raise MisconfigurationException(
                f"{str(self._trainer.ckpt_path)!r} was left behind by the guard, which went back to {decision['checkpoint']!r}, and neither"
                " that nor an older one is there; start anew, or take the file guard.json beside it away."
            )
        rank_zero_info(f"guard: {str(self._trainer.ckpt_path)!r} had been left behind: the run goes back to {found[0]!r}.")
        self._left_behind, self._goes_back = None, True
        raise RewindRun(found[1])

    def _note(self, action: str, trouble: Trouble, **more: Any) -> None:
        batches = self._trainer.fit_loop.progress.batch.total_ready
        place = {"epoch": trouble.epoch, "batch_idx": trouble.batch_idx, "step": trouble.step, "batches": batches}
        self.record.add({"action": action, "reason": str(trouble), **place, **more})

    # -- checkpoints -------------------------------------------------------------------------------------------------------

    def _first(self, trouble: Trouble) -> int:
        """The first batch of the epoch that may be to blame."""
        return max(0, trouble.first - (self.margin or 0))

    def _good_before(self, trouble: Trouble) -> tuple[str, dict[str, Any]] | None:
        self._spoilt = False
        latest = trouble.epoch, self._first(trouble)
        return newest_that(self._trainer.run, lambda path, content: self._is_good(content, latest))

    def _is_good(self, content: dict[str, Any], latest: Place) -> bool:
        place = _place_in(content)
        state = content.get("callbacks", {}).get(self.state_key) or {}
        if place > latest or self.record.left_behind(state, place) is not None:
            return False
        weights = (content["state_dict"].get(name) for name, _ in self._trainer.lightning_module.named_parameters())
        finite = all(bool(weight.isfinite().all()) for weight in weights if isinstance(weight, Tensor))
        self._spoilt = self._spoilt or not finite  # what is to blame came before it
        return finite

    def _advice(self, trouble: Trouble) -> str:
        try:
            found = self._good_before(trouble)
        except LxError:  # no checkpoint I/O, or a storage that does not answer: the loss is what is to be told of
            found = None
        if found is None:
            return "There is no good checkpoint from before it."
        return f"The newest good checkpoint from before it is {found[0]!r}."

    def state_dict(self) -> dict[str, Any]:
        """The last losses, and all that was done."""
        return {**self.history.state_dict(), **self.record.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from those; where the run goes back, what was done stays known."""
        self.history.load_state_dict(state_dict)
        if not self._goes_back:
            self.record.load_state_dict(state_dict)
        self._goes_back = False


def _loss_in(output: Any) -> Any:
    return output.get("loss") if isinstance(output, Mapping) else output


def _place(trainer: Any) -> Place:
    """Where training stands before a batch is fetched."""
    progress = trainer.fit_loop.progress
    within = progress.epoch["ready"] > progress.epoch["processed"]
    return progress.epoch["completed"], progress.batch.processed if within else 0


def _place_in(content: dict[str, Any]) -> Place:
    """Where training stood when a checkpoint was written."""
    found = position(content)
    return (found["epochs"], 0) if found["epoch"] is None else (found["epoch"], found["batches"])
