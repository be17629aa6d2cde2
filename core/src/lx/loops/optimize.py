"""What happens to one training batch: forward, backward, and the optimizer step that closes an accumulation window."""

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from torch import Tensor

from lx.batch import map_tensors
from lx.interfaces.precision import Precision
from lx.kernel.errors import MisconfigurationException
from lx.loops.evaluations import Evaluations
from lx.loops.micro import MicroBatches
from lx.loops.returned import Skipped, items_in, loss_in, note_unfit_loss
from lx.loops.steps import discard_gradients, find_bare_step, find_clear, find_clip, runs_closure_inside, step_each
from lx.loops.sync import GradientSync
from lx.loops.weights import Weights, no_gradient, rescale_gradients
from lx.optimizers import LightningOptimizer
from lx.wrappers import bind_step


class AutomaticOptimization:
    """One batch, in the order of its events; each line that nobody listens to or overrides costs a look at a None.

    (optimizer_step, if the batch closes a window)
        training_step
        on_before_zero_grad, optimizer_zero_grad            (first batch of a window)
        on_before_backward, backward, on_after_backward
        on_before_optimizer_step, configure_gradient_clipping   (closing batch)
        the optimizer's own step

    Several optimizers step together after one loss: what is said of the optimizer above happens for each of them in turn, and all steps
    together count as one.

    The loss is divided by the number of batches that the window really holds, so that a short one at the end of an epoch
    has the gradient of its mean, too. Where that number was not known in time, or a batch was skipped, gradients are rescaled when the
    window closes. Where the step returns `num_items`, batches do not count alike, and `Weights` has the arithmetic.
    """

    __slots__ = (
        "_accumulates_itself",
        "_after_backward",
        "_backward",
        "_bare_step",
        "_batch_idx",
        "_before_backward",
        "_before_step",
        "_before_zero_grad",
        "_clear",
        "_clears",
        "_clip",
        "_closes_with_care",
        "_evaluations",
        "_log",
        "_module",
        "_neutral_backward",
        "_optimizer_step",
        "_optimizers",
        "_precision",
        "_precision_backward",
        "_progress",
        "_step",
        "_sync",
        "_trainer",
        "_unscale",
        "_window_size",
        "_zero_grad",
        "contributed",
        "divisor",
        "forward_backward",
        "held",
        "keeps_gradients",
        "loss",
        "no_sync",
        "output",
        "weights",
    )

    def __init__(self, trainer: Any) -> None:
        module, dispatch, strategy, precision = trainer.lightning_module, trainer.dispatch, trainer.strategy, trainer.precision_plugin
        self._trainer = trainer
        self._module = module
        self._log = trainer.log
        self._precision = precision
        self._progress = trainer.fit_loop.progress
        self._optimizers: list[Any] = trainer.optimizers
        self._step = training_step(trainer)
        self._before_zero_grad = dispatch.on_before_zero_grad
        self._before_backward = dispatch.on_before_backward
        self._after_backward = dispatch.on_after_backward
        self._before_step = dispatch.on_before_optimizer_step
        self._zero_grad = trainer.dispatch.own("optimizer_zero_grad")
        self._backward = trainer.dispatch.own("backward")
        self._optimizer_step = trainer.dispatch.own("optimizer_step")
        self._unscale = precision.unscale_gradients if type(precision).unscale_gradients is not Precision.unscale_gradients else None
        self._neutral_backward = type(precision).backward is Precision.backward and type(precision).scale_loss is Precision.scale_loss
        self._neutral_backward = self._neutral_backward and not dispatch.profiles
        self._precision_backward = dispatch.timed(precision.backward, strategy, "Strategy", "backward")
        self._clip = find_clip(trainer)
        self._closes_with_care = not (self._unscale is None and self._before_step is None and self._clip is None)
        self._bare_step = find_bare_step(precision, self._optimizers)
        self._clears = [find_clear(optimizer, dispatch.profiles) for optimizer in self._optimizers]
        # Without a function around it, where the optimizer is the only one and nobody listens or overrides.
        alone = len(self._optimizers) == 1 and self._before_zero_grad is None and self._zero_grad is None
        self._clear: Callable[[], Any] = self._clears[0] if alone else self._clear_gradients
        self._evaluations = self._find_evaluations()
        self.keeps_gradients = self._evaluations is None  # else an open window is in batches that its optimizer evaluates again
        self._sync = GradientSync(trainer)
        self.no_sync = self._sync.pause
        self.weights = Weights(self._sync)
        self._accumulates_itself = strategy.capabilities.handles_accumulation
        self._batch_idx = 0
        self.held = 0
        self.divisor = self._window_size = 1
        self.contributed = 0
        self.loss: Tensor | None = None
        self.output: Any = None
        whole = trainer.limits.micro_batch_size is None
        self.forward_backward: Callable[[Any, int], None] = self.evaluate if whole else MicroBatches(self, trainer).evaluate

    def _find_evaluations(self) -> Evaluations | None:
        """What runs the closure inside of the optimizer, where it must run there; None where it may run before."""
        hook = self._optimizer_step
        if not self._optimizers or (hook is None and not any(map(runs_closure_inside, self._optimizers))):
            return None
        call = hook or self._module.optimizer_step
        handed = [LightningOptimizer(optimizer, self._step_with_closure, self._module) for optimizer in self._optimizers]
        return Evaluations(self, self._trainer, functools.partial(step_each, call, handed))

    def begin_epoch(self) -> None:
        """Begins with an empty window: what an epoch that was stopped had gathered belongs to no step any more."""
        self.held = self.contributed = 0
        self.divisor = 1
        self.weights.clear()
        if self._evaluations is not None:
            self._evaluations.clear()

    def closes_window(self, left: int | float, is_last: bool) -> bool:
        """Whether the next batch closes its window; `left` is how many batches are left with it, `inf` where nobody knows."""
        if self.held == 0:
            self._window_size = self._trainer.limits.window_size(self._progress.steps)
            # A window at the end of a loader of known length holds what is left.
            self.divisor = int(min(self._window_size, left))
        return is_last or self.held + 1 >= self._window_size

    def run(self, batch: Any, batch_idx: int, closes: bool) -> None:
        """Trains on one batch; `loss` is then what the step returned, divided and detached."""
        self._batch_idx = batch_idx
        if not closes and not self._accumulates_itself:
            with self.no_sync():
                self.forward_backward(batch, batch_idx)
            self.held += 1
            if self._evaluations is not None:
                self._evaluations.keep(batch, batch_idx)
        elif self._evaluations is None:
            self.forward_backward(batch, batch_idx)
            self._take_step()
        else:
            self._take_evaluated_step(self._evaluations, (batch, batch_idx))

    def shortest(self) -> Callable[[Any, int, bool], None]:
        """What trains on a batch in an epoch whose windows hold one each: `run`, or, where nobody listens, what is left of it."""
        told = (self._before_zero_grad, self._zero_grad, self._before_backward, self._backward, self._after_backward, self._evaluations)
        plain = (
            self._trainer.limits.micro_batch_size is None
            and self._neutral_backward
            and not self._closes_with_care
            and all(part is None for part in told)
        )
        return self._run_plain if plain else self.run

    def _run_plain(self, batch: Any, batch_idx: int, closes: bool) -> None:
        """`run`, with those of its calls that are not empty, in one function: in a small step, half of what lx adds to it."""
        log = self._log
        log.site = "training_step"
        self.output = loss = self._step(batch, batch_idx)
        log.site = None
        if type(loss) is not Tensor:
            self._learn_from(loss, batch_idx)
            self._take_step()
            return
        self._clear()
        try:
            loss.backward()
        except RuntimeError as error:
            note_unfit_loss(error, loss)
            raise
        self.output = self.loss = loss.data  # of this step nothing else stays alive
        self._bare_step()
        self._progress.steps += 1

    def finish(self) -> None:
        """Closes a window that the end of the epoch has cut short, with the batches that it holds."""
        if self.contributed:
            self.weights.share(self._optimizers)
        if self._evaluations is None:
            self._take_step()
        else:
            self._take_evaluated_step(self._evaluations, None)

    def _take_step(self) -> None:
        if self.contributed:
            if self._closes_with_care or self.contributed != self.divisor or self.weights.open:
                for optimizer in self._optimizers:
                    if self.contributed:  # until somebody leaves the step out
                        self._close_window(optimizer)
                if not self.contributed:
                    self.begin_epoch()
                    return
            self._bare_step()
            self._progress.steps += 1
        self.held = self.contributed = 0
        if self.weights.open:
            self.weights.clear()

    def _take_evaluated_step(self, evaluations: Evaluations, closing: tuple[Any, int] | None) -> None:
        evaluations.step(closing)
        self._progress.steps += self.contributed > 0
        self.held = self.contributed = 0
        self.weights.clear()

    def _step_with_closure(self, optimizer: Any, closure: Callable[[], Any] | None, kwargs: dict[str, Any]) -> Any:
        def whole() -> Any:
            result = closure() if closure is not None else None
            if self.contributed:
                self._close_window(optimizer)
            return result

        return self._precision.optimizer_step(optimizer, whole, **kwargs)

    def evaluate(self, batch: Any, batch_idx: int) -> None:
        """Runs the step on a batch, and backward from its loss; the gradients of an earlier window are cleared in between."""
        log = self._log
        outer, log.site = log.site, "training_step"
        self.output = output = self._step(batch, batch_idx)
        log.site = outer
        if type(output) is Tensor and not self.weights.open:
            self._learn(output if self.divisor == 1 else output / self.divisor)
            self.output = self.loss
        else:
            self._learn_from(output, batch_idx)

    def _learn_from(self, output: Any, batch_idx: int) -> None:
        """Takes the loss from what a step returned that is no plain tensor, or follows upon `num_items` in its window."""
        loss, weights = loss_in(output, self._trainer.world_size), self.weights
        items = items_in(output, self._sync.exact)
        if loss is not None:
            weights.check(items, self.contributed, batch_idx)
        if items is not None and self._accumulates_itself:
            raise MisconfigurationException(
                f"training_step returned 'num_items', and {type(self._trainer.strategy).__name__} accumulates gradients itself, all batches"
                " alike; leave it out."
            )
        if loss is None:
            self.loss = None
            if isinstance(output, Skipped):
                self.weights.pass_over(output.loss, self.divisor, self._optimizers, self.contributed > 0)
        elif items is None:
            self._learn(loss if self.divisor == 1 else loss / self.divisor)
        elif weights.skips(items):
            self.loss, weights.open = None, True
        else:
            loss = weights.weigh(loss, items, self.divisor, self._optimizers if self.contributed else ())
            with no_gradient(self._optimizers) if weights.is_nothing(items) else nullcontext():
                self._learn(loss)

    def _learn(self, loss: Tensor) -> None:
        """Runs backward from a loss; the gradients of an earlier window are cleared before."""
        if not self.contributed:
            self._clear()
        if self._before_backward is not None:
            self._before_backward(loss)
        try:
            if self._backward is not None:
                self._backward(self._precision.scale_loss(loss))
            elif self._neutral_backward:
                loss.backward()
            else:
                self._precision_backward(loss)
        except RuntimeError as error:
            note_unfit_loss(error, loss)
            raise
        self.loss = loss.data  # backward is over, so it is as good as detach(), at half the price
        if self._after_backward is not None:
            self._after_backward()
        self.contributed += 1

    def _clear_gradients(self) -> None:
        for optimizer, clear in zip(self._optimizers, self._clears, strict=True):
            if self._before_zero_grad is not None:
                self._before_zero_grad(optimizer)
            if self._zero_grad is not None:
                self._zero_grad(self._trainer.current_epoch, self._batch_idx, optimizer)
            else:
                clear()

    def _close_window(self, optimizer: Any) -> None:
        """What comes between backward and the step: exact scale, true gradients, hooks, clipping."""
        if self.weights.open:
            rescale_gradients(optimizer, self.weights.factor())
        elif self.contributed != self.divisor and not self._accumulates_itself:
            rescale_gradients(optimizer, self.divisor / self.contributed)
        if self._unscale is not None:
            self._unscale(optimizer)
        if self._before_step is not None:
            self._before_step(optimizer)
        if self._clip is not None:
            self._clip(optimizer)

    def skip_step(self) -> None:
        """Leaves out the step of the window that closes: its gradients are gone, and it does not count.

        For a callback in `on_before_optimizer_step`, on all ranks alike.
        """
        discard_gradients(self._optimizers)
        self.contributed = 0

    def window_state(self) -> dict[str, Any]:
        """What is to be known of the open window beside its gradients, in plain numbers."""
        state = {"held": self.held, "contributed": self.contributed, "divisor": self.divisor, "size": self._window_size}
        return state | self.weights.state()

    def restore_window(self, state: dict[str, Any]) -> None:
        """Goes on with an open window; its gradients are in the parameters."""
        self.held, self.contributed = state["held"], state["contributed"]
        self.divisor, self._window_size = state["divisor"], state["size"]
        self.weights.load_state(state)

    def outputs(self) -> dict[str, Any]:
        """What `on_train_batch_end` is handed: the loss, divided by the window's size, and the rest, all detached."""
        loss = self.loss
        if loss is None:
            return {}
        if loss is self.output or not isinstance(self.output, Mapping):
            return {"loss": loss}
        rest = {name: map_tensors(Tensor.detach, value) for name, value in self.output.items() if name != "loss"}
        if rest.get("num_items") is not None:  # its share in the window is not what a loss is shown for
            loss = self.output["loss"].detach() / self.divisor
        return {"loss": loss, **rest}


def training_step(trainer: Any) -> Callable[[Any, int], Any]:
    """The module's `training_step` as a function of (batch, batch_idx), with a profiler's clock where one runs, and what is around it."""
    module, around = trainer.lightning_module, trainer.fit_loop.around_step
    step = trainer.dispatch.timed(bind_step(trainer, "training_step"), module, "LightningModule", "training_step")
    whole = step if takes_batch_idx(module.training_step) else lambda batch, batch_idx: step(batch)
    return whole if around is None else around(whole)


def takes_batch_idx(step: Callable[..., Any]) -> bool:
    """Whether a step method has a second positional parameter, under whatever name.

    >>> takes_batch_idx(lambda batch, i: None), takes_batch_idx(lambda batch: None)
    (True, False)
    """
    parameters = list(inspect.signature(step).parameters.values())
    positional = [parameter for parameter in parameters if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)]
    return len(positional) > 1 or any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
