"""Accumulated gradients are those of the mean over each real window, as a plain loop of PyTorch would take it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from lx import Callback, LightningModule, Trainer
from lx.kernel.errors import MisconfigurationException
from lx_plugin_amp.precision import MixedPrecision

Window = int | Callable[[int], int]
Batch = tuple[Tensor, Tensor]
MakeTrainer = Callable[..., Trainer]

EXACT = {torch.float32: {"rtol": 1e-6, "atol": 1e-7}, torch.float64: {"rtol": 1e-13, "atol": 1e-14}}


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """The same weights each time; the tanh makes the gradient depend on them, so that a wrong step shows in all that follow."""
    layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).to(dtype)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layers


def batches(count: int, dtype: torch.dtype = torch.float32) -> list[Batch]:
    """Batches of two rows; the last one has one."""
    inputs = torch.randn(2 * count, 3, generator=torch.Generator().manual_seed(1)).to(dtype)
    rows = [(inputs[index : index + 2], inputs[index : index + 2].square().sum(1, keepdim=True)) for index in range(0, 2 * count, 2)]
    return [*rows[:-1], (rows[-1][0][:1], rows[-1][1][:1])]


class Unsized(IterableDataset[Batch]):
    """Batches of which nobody knows the number."""

    def __init__(self, rows: Sequence[Batch]) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.rows)


def unsized(rows: Sequence[Batch]) -> DataLoader[Batch]:
    return DataLoader(Unsized(rows), batch_size=None)


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.5)


class Net(LightningModule):
    """Skips the batches in `skipped`."""

    def __init__(self, make_optimizer: Any = sgd, dtype: torch.dtype = torch.float32, skipped: Sequence[int] = ()) -> None:
        super().__init__()
        self.layers = network(dtype)
        self.make_optimizer, self.skipped = make_optimizer, skipped

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        return None if batch_idx in self.skipped else nn.functional.mse_loss(self.layers(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer(self.parameters())


def windows(rows: Sequence[Batch], window: Window, steps: int, skipped: Sequence[int]) -> Iterator[list[Batch]]:
    """The windows of one epoch, each without the batches that are skipped; `steps` were taken before."""
    start = 0
    while start < len(rows):
        size = window(steps) if callable(window) else window
        kept = [rows[index] for index in range(start, min(start + size, len(rows))) if index not in skipped]
        start += size
        if kept:
            steps += 1
            yield kept


def plain(
    rows: Sequence[Batch],
    window: Window,
    *,
    epochs: int = 2,
    make_optimizer: Any = sgd,
    dtype: torch.dtype = torch.float32,
    skipped: Sequence[int] = (),
    clip: Callable[[Any], Any] | None = None,
) -> tuple[dict[str, Tensor], int]:
    """The loop without lx: the weights at its end, and the number of steps."""
    layers = network(dtype)
    optimizer = make_optimizer(layers.parameters())
    steps = 0
    for _ in range(epochs):
        for kept in windows(rows, window, steps, skipped):

            def closure(kept: list[Batch] = kept) -> Tensor:
                optimizer.zero_grad()
                losses = [nn.functional.mse_loss(layers(inputs), targets) / len(kept) for inputs, targets in kept]
                for loss in losses:
                    loss.backward()
                if clip is not None:
                    clip(layers.parameters())
                return torch.stack(losses).sum()

            optimizer.step(closure)
            steps += 1
    return {f"layers.{name}": weight.detach() for name, weight in layers.named_parameters()}, steps


def assert_same(model: LightningModule, expected: dict[str, Tensor], **tolerance: float) -> None:
    assert set(expected) == set(dict(model.named_parameters()))
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.detach(), expected[name], **(tolerance or EXACT[weight.dtype]))


@pytest.mark.parametrize("loader", [list, unsized], ids=["sized", "unsized"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_tail_is_the_mean_of_what_it_holds(bare_trainer: MakeTrainer, size: int, loader: Any) -> None:
    for length in range(1, 8):
        expected, steps = plain(batches(length), size)
        model, trainer = Net(), bare_trainer(max_epochs=2, accumulate_grad_batches=size)
        trainer.fit(model, loader(batches(length)))
        assert_same(model, expected)
        assert trainer.global_step == steps == 2 * -(-length // size)


@pytest.mark.parametrize("loader", [list, unsized], ids=["sized", "unsized"])
def test_in_float64_it_is_exact_to_the_last_digits(bare_trainer: MakeTrainer, loader: Any) -> None:
    expected, _ = plain(batches(5, torch.float64), 3, dtype=torch.float64, epochs=3)
    model = Net(dtype=torch.float64)
    bare_trainer(max_epochs=3, accumulate_grad_batches=3, precision="64-true").fit(model, loader(batches(5)))
    with pytest.raises(AssertionError):  # the tolerance is one that float32 does not keep
        assert_same(model, {name: weight.float().double() for name, weight in expected.items()})
    # The batches of the run were rounded to float32 before they were widened; so are these.
    expected, _ = plain([tuple(part.double() for part in row) for row in batches(5)], 3, dtype=torch.float64, epochs=3)
    assert_same(model, expected)


@pytest.mark.parametrize("limit", [1, 3, 4, 0.5])
def test_a_limit_makes_a_tail_too(bare_trainer: MakeTrainer, limit: int | float) -> None:
    rows = batches(7)
    expected, _ = plain(rows[: limit if isinstance(limit, int) else int(7 * limit)], 2)
    model = Net()
    bare_trainer(max_epochs=2, accumulate_grad_batches=2, limit_train_batches=limit).fit(model, rows)
    assert_same(model, expected)


@pytest.mark.parametrize("limit", [3, 7, 20])
def test_a_limit_on_a_loader_without_length_makes_a_tail_too(bare_trainer: MakeTrainer, limit: int) -> None:
    rows = batches(7)
    expected, _ = plain(rows[:limit], 2)
    model = Net()
    bare_trainer(max_epochs=2, accumulate_grad_batches=2, limit_train_batches=limit).fit(model, unsized(rows))
    assert_same(model, expected)


class Optimist:
    """A loader with fewer batches than it says."""

    def __init__(self, rows: Sequence[Batch], length: int) -> None:
        self.rows, self.length = rows, length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.rows)


@pytest.mark.parametrize("size", [2, 3, 8])
def test_a_loader_that_ends_early_closes_its_last_window(bare_trainer: MakeTrainer, size: int) -> None:
    rows = batches(5)
    expected, steps = plain(rows, size)
    model, trainer = Net(), bare_trainer(max_epochs=2, accumulate_grad_batches=size)
    trainer.fit(model, Optimist(rows, 6))
    assert trainer.global_step == steps
    assert_same(model, expected)


class Ends(Net):
    """Ends each epoch before its fourth batch."""

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> int | None:
        return -1 if batch_idx == 3 else None


def test_an_epoch_that_the_module_ends_leaves_no_gradient_to_the_next(bare_trainer: MakeTrainer) -> None:
    expected, steps = plain(batches(6)[:3], 2)
    model, trainer = Ends(), bare_trainer(max_epochs=2, accumulate_grad_batches=2)
    trainer.fit(model, batches(6))
    assert trainer.global_step == steps
    assert_same(model, expected)


@pytest.mark.parametrize("loader", [list, unsized], ids=["sized", "unsized"])
@pytest.mark.parametrize("skipped", [(0,), (1,), (2, 3), (4,), (0, 5), (6,), (1, 3, 6)])
def test_a_skipped_batch_is_no_part_of_the_mean(bare_trainer: MakeTrainer, skipped: tuple[int, ...], loader: Any) -> None:
    expected, steps = plain(batches(7), 2, skipped=skipped)
    model, trainer = Net(skipped=skipped), bare_trainer(max_epochs=2, accumulate_grad_batches=2)
    trainer.fit(model, loader(batches(7)))
    assert_same(model, expected)
    assert trainer.global_step == steps


@pytest.mark.parametrize("algorithm", ["norm", "value"])
@pytest.mark.parametrize("loader", [list, unsized], ids=["sized", "unsized"])
def test_clipping_sees_the_mean_of_the_window(bare_trainer: MakeTrainer, algorithm: str, loader: Any) -> None:
    clip = {"norm": nn.utils.clip_grad_norm_, "value": nn.utils.clip_grad_value_}[algorithm]
    expected, _ = plain(batches(5), 2, clip=lambda parameters: clip(parameters, 0.3))
    unclipped, _ = plain(batches(5), 2)
    assert not torch.allclose(expected["layers.0.weight"], unclipped["layers.0.weight"])
    model = Net()
    trainer = bare_trainer(max_epochs=2, accumulate_grad_batches=2, gradient_clip_val=0.3, gradient_clip_algorithm=algorithm)
    trainer.fit(model, loader(batches(5)))
    assert_same(model, expected)


def test_the_window_may_be_a_function_of_the_steps_taken(bare_trainer: MakeTrainer) -> None:
    def window(steps: int) -> int:
        return min(1 + steps, 3)

    for loader in (list, unsized):
        expected, steps = plain(batches(7), window)
        model, trainer = Net(), bare_trainer(max_epochs=2, accumulate_grad_batches=window)
        trainer.fit(model, loader(batches(7)))
        assert_same(model, expected)
        assert trainer.global_step == steps == 4 + 3


@pytest.mark.parametrize("size", [0, -1, 1.5, None])
def test_a_function_that_gives_no_number_of_batches_is_named(bare_trainer: MakeTrainer, size: Any) -> None:
    with pytest.raises(MisconfigurationException, match="accumulate_grad_batches"):
        bare_trainer(max_epochs=1, accumulate_grad_batches=lambda step: size).fit(Net(), batches(2))


class Grow(Callback):
    """Changes the window at the beginning of each epoch, as a schedule does."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.accumulate_grad_batches = [1, 3, 2][trainer.current_epoch]


def test_the_window_may_be_changed_between_epochs(bare_trainer: MakeTrainer) -> None:
    model, trainer = Net(), bare_trainer(max_epochs=3, callbacks=Grow())
    trainer.fit(model, batches(5))
    assert trainer.global_step == 5 + 2 + 3
    expected, _ = plain(batches(5), lambda steps: 1 if steps < 5 else 3 if steps < 7 else 2, epochs=3)
    assert_same(model, expected)


# -- what the hooks see ----------------------------------------------------------------------------------------------------


class Outputs(Callback):
    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(outputs)


class Returns(LightningModule):
    """Returns what it is told for each batch."""

    def __init__(self, returned: Sequence[Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.returned = returned

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        value = self.returned[batch_idx]
        return value(self.weight) if callable(value) else value

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize(("loader", "tail"), [(list, 1.0), (iter, 0.5)], ids=["sized", "unsized"])
def test_the_end_of_a_batch_sees_the_loss_divided_and_what_came_with_it(bare_trainer: MakeTrainer, loader: Any, tail: float) -> None:
    outputs = Outputs()
    model = Returns(
        [
            lambda weight: weight * 6,
            lambda weight: {"loss": weight * 8, "logits": weight * torch.ones(2), "names": ["a"]},
            lambda weight: weight * 1,
        ]
    )
    bare_trainer(max_epochs=1, accumulate_grad_batches=2, callbacks=outputs).fit(model, loader(torch.zeros(3, 1)))
    first, second, third = outputs.seen
    assert first == {"loss": torch.tensor(3.0)}
    assert second["loss"] == 4.0
    assert second["names"] == ["a"]
    assert not second["loss"].requires_grad
    assert not second["logits"].requires_grad
    # Without a length nobody knows yet that this window holds one batch only: its gradients are rescaled when it closes.
    assert third == {"loss": torch.tensor(tail)}


def test_the_end_of_a_skipped_batch_sees_nothing(bare_trainer: MakeTrainer) -> None:
    outputs = Outputs()
    model = Returns([lambda weight: {"loss": weight, "extra": 1}, None, lambda weight: weight])
    bare_trainer(max_epochs=1, callbacks=outputs).fit(model, list(torch.zeros(3, 1)))
    assert outputs.seen == [{"loss": torch.tensor(1.0), "extra": 1}, {}, {"loss": torch.tensor(1.0)}]


@pytest.mark.parametrize(
    ("returned", "message"),
    [({"logits": 1}, "'loss' is missing"), ("loss", "a str"), (3.0, "a float"), ({"loss": 3.0}, "must be a scalar tensor")],
)
def test_what_is_no_loss_is_refused(bare_trainer: MakeTrainer, returned: Any, message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        bare_trainer(max_epochs=1).fit(Returns([returned]), list(torch.zeros(1, 1)))


# -- precision -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loader", [list, unsized], ids=["sized", "unsized"])
def test_with_a_gradient_scaler(bare_trainer: MakeTrainer, loader: Any) -> None:
    layers, rows = network(), batches(5)
    optimizer, scaler = sgd(layers.parameters()), torch.amp.GradScaler("cpu", init_scale=256.0)
    for _ in range(2):
        for kept in windows(rows, 2, 0, ()):
            optimizer.zero_grad()
            for inputs, targets in kept:
                with torch.autocast("cpu", dtype=torch.float16):
                    loss = nn.functional.mse_loss(layers(inputs), targets) / len(kept)
                scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(layers.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
    model = Net()
    precision = MixedPrecision("16-mixed", scaler=torch.amp.GradScaler("cpu", init_scale=256.0))
    trainer = bare_trainer(max_epochs=2, accumulate_grad_batches=2, gradient_clip_val=0.5, plugins=precision)
    trainer.fit(model, loader(rows))
    # The rescaled tail is rounded to half precision elsewhere than the divided one.
    assert_same(model, {f"layers.{name}": weight.detach() for name, weight in layers.named_parameters()}, rtol=1e-4, atol=1e-4)
    assert trainer.global_step == 6
    assert precision.scaler is not None
    assert precision.scaler.get_scale() == scaler.get_scale()


def test_a_window_of_skipped_batches_leaves_the_scaler_alone(bare_trainer: MakeTrainer) -> None:
    model = Net(skipped=(0, 1, 3))
    precision = MixedPrecision("16-mixed", scaler=torch.amp.GradScaler("cpu", init_scale=256.0))
    trainer = bare_trainer(max_epochs=1, accumulate_grad_batches=2, plugins=precision)
    trainer.fit(model, batches(4))
    assert trainer.global_step == 1


# -- optimizers that evaluate the loss themselves --------------------------------------------------------------------------


class Climber(torch.optim.Optimizer):
    """Sharpness-aware: it takes the gradient at the top of the nearest climb, for which it evaluates the loss twice."""

    def __init__(self, parameters: Any, lr: float = 0.05, rho: float = 0.2) -> None:
        super().__init__(parameters, {"lr": lr, "rho": rho})

    @torch.no_grad()
    def step(self, closure: Any) -> Any:
        with torch.enable_grad():
            loss = closure()
        group = self.param_groups[0]
        gradients = [parameter.grad for parameter in group["params"]]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm() + 1e-12
        climbs = [group["rho"] * gradient / norm for gradient in gradients]
        for parameter, climb in zip(group["params"], climbs, strict=True):
            parameter.add_(climb)
        with torch.enable_grad():
            closure()
        for parameter, climb in zip(group["params"], climbs, strict=True):
            parameter.sub_(climb)
            parameter.sub_(group["lr"] * parameter.grad)
        return loss


def lbfgs(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(parameters, lr=0.1, max_iter=3, history_size=4)


def lbfgs_with_search(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(parameters, lr=0.1, max_iter=3, history_size=4, line_search_fn="strong_wolfe")


class Steps(Net):
    """Overrides the step, and does in it what it would have done."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)


@pytest.mark.parametrize("model_class", [Net, Steps])
@pytest.mark.parametrize("loader", [list, unsized], ids=["sized", "unsized"])
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("make_optimizer", [lbfgs, lbfgs_with_search, Climber])
def test_each_evaluation_of_a_step_is_of_the_whole_window(
    bare_trainer: MakeTrainer, make_optimizer: Any, size: int, loader: Any, model_class: type[Net]
) -> None:
    rows = [tuple(part.double() for part in row) for row in batches(5)]
    expected, steps = plain(rows, size, make_optimizer=make_optimizer, dtype=torch.float64)
    model, trainer = (
        model_class(make_optimizer, torch.float64),
        bare_trainer(max_epochs=2, accumulate_grad_batches=size, precision="64-true"),
    )
    trainer.fit(model, loader(batches(5)))
    assert_same(model, expected, rtol=1e-9, atol=1e-10)
    assert trainer.global_step == steps


@pytest.mark.parametrize("make_optimizer", [lbfgs, Climber])
def test_skipped_batches_and_clipping_within_such_a_window(bare_trainer: MakeTrainer, make_optimizer: Any) -> None:
    rows = [tuple(part.double() for part in row) for row in batches(6)]
    expected, steps = plain(
        rows,
        3,
        make_optimizer=make_optimizer,
        dtype=torch.float64,
        skipped=(1, 5),
        clip=lambda parameters: nn.utils.clip_grad_norm_(parameters, 0.4),
    )
    model = Net(make_optimizer, torch.float64, skipped=(1, 5))
    trainer = bare_trainer(max_epochs=2, accumulate_grad_batches=3, precision="64-true", gradient_clip_val=0.4)
    trainer.fit(model, batches(6))
    # A skipped batch is found out when the others have been divided: other roundings, of which LBFGS makes more than an ordinary step.
    assert_same(model, expected, rtol=1e-6, atol=1e-6)
    assert trainer.global_step == steps


class Other(torch.optim.SGD):
    """An optimizer of another package, which calls its closure in its own way: once, with gradients on."""

    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        super().step()
        return loss


@pytest.mark.parametrize("loader", [list, unsized], ids=["sized", "unsized"])
@pytest.mark.parametrize("skipped", [(), (2,), (1, 4)])
def test_an_overridden_step_and_other_peoples_optimizers_change_nothing(
    bare_trainer: MakeTrainer, skipped: tuple[int, ...], loader: Any
) -> None:
    expected, steps = plain(batches(5), 2, skipped=skipped)
    for model in (Steps(skipped=skipped), Net(lambda parameters: Other(parameters, lr=0.05, momentum=0.5), skipped=skipped)):
        trainer = bare_trainer(max_epochs=2, accumulate_grad_batches=2)
        trainer.fit(model, loader(batches(5)))
        assert_same(model, expected)
        assert trainer.global_step == steps


class StepsSeldom(Net):
    """Steps at every second batch; at the others it runs the closure, whose gradients are cleared by the next."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        if batch_idx % 2:
            optimizer.step(closure=optimizer_closure)
        else:
            optimizer_closure()


def test_an_overridden_step_may_leave_steps_out(bare_trainer: MakeTrainer) -> None:
    rows = batches(6)
    expected, _ = plain(rows[1::2], 1)
    model = StepsSeldom()
    bare_trainer(max_epochs=2).fit(model, rows)
    assert_same(model, expected)


class ClosureTwice(Net):
    """Evaluates a window twice before an ordinary optimizer steps."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer_closure()
        optimizer.step(closure=optimizer_closure)


def test_a_closure_called_twice_gives_the_gradient_once(bare_trainer: MakeTrainer) -> None:
    expected, _ = plain(batches(4), 1)
    model = ClosureTwice()
    bare_trainer(max_epochs=2).fit(model, batches(4))
    assert_same(model, expected)


class LogsLoss(Net):
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        loss = super().training_step(batch, batch_idx)
        self.log("loss", loss, on_step=True, on_epoch=True, batch_size=1)
        return loss


def test_what_is_logged_is_the_first_evaluation_of_each_batch(bare_trainer: MakeTrainer) -> None:
    frozen = LogsLoss(lambda parameters: torch.optim.SGD(parameters, lr=0.0))
    trainer = bare_trainer(max_epochs=1)
    trainer.fit(frozen, batches(1))
    first = trainer.callback_metrics["loss_epoch"]
    trainer = bare_trainer(max_epochs=1)
    trainer.fit(LogsLoss(lbfgs), batches(1))
    assert trainer.callback_metrics["loss_epoch"] == first
