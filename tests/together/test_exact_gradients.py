"""The gradient of an accumulated step is that of the one big batch, whatever the batches hold and wherever a window ends."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, IterableDataset

from lx import LightningModule, Trainer
from lx.kernel.errors import MisconfigurationException
from lx_plugin_amp.precision import MixedPrecision

Batch = tuple[Tensor, Tensor]
MakeTrainer = Callable[..., Trainer]

PADDING = -100
RELATIVE = {torch.float32: 1e-6, torch.float64: 1e-12}


def equal(count: int) -> list[Batch]:
    """Batches of four rows, all of which count."""
    generator = torch.Generator().manual_seed(count)
    return [(torch.randn(4, 3, generator=generator), torch.randint(3, (4,), generator=generator)) for _ in range(count)]


def unequal(count: int, empty: Sequence[int] = ()) -> list[Batch]:
    """Batches of one to five rows, about half of which are padding; of those in `empty`, all."""
    generator = torch.Generator().manual_seed(100 + count)
    rows = []
    for place in range(count):
        size = 1 + (3 * place + count) % 5
        targets = torch.randint(3, (size,), generator=generator)
        targets[torch.rand(size, generator=generator) < 0.5] = PADDING
        targets[0] = place % 3
        rows.append((torch.randn(size, 3, generator=generator), torch.full_like(targets, PADDING) if place in empty else targets))
    return rows


class Unsized(IterableDataset[Batch]):
    """Batches of which nobody knows the number."""

    def __init__(self, rows: Sequence[Batch]) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.rows)


def unsized(rows: Sequence[Batch]) -> DataLoader[Batch]:
    return DataLoader(Unsized(rows), batch_size=None)


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.5)


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.001)


class Tagger(LightningModule):
    """Compares the gradients that each step is taken with to those of one batch of all that came since the step before.

    It skips the batches in `skipped`. `epochs` are the batches of each epoch.
    """

    def __init__(
        self,
        *epochs: Any,
        counts: Callable[[Tensor], Any] | None = None,
        make_optimizer: Any = sgd,
        skipped: Sequence[int] = (),
        dtype: torch.dtype = torch.float32,
        divisor_from: int | None = None,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).to(dtype)
        with torch.no_grad():
            for parameter in self.layers.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.epochs, self.counts, self.make_optimizer = epochs, counts, make_optimizer
        self.skipped, self.divisor_from = skipped, divisor_from
        self.window: list[Batch] = []
        self.errors: list[float] = []
        self.in_windows: list[int] = []
        self.clip: float | None = None

    def train_dataloader(self) -> Any:
        return self.epochs[self.current_epoch]

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        if batch_idx in self.skipped:
            return None
        self.window.append(batch)
        inputs, targets = batch
        loss = nn.functional.cross_entropy(self.layers(inputs), targets)
        if self.divisor_from is not None:  # written by hand: from 0 on, neither the mean over nothing nor its gradient is a number
            there = (targets != PADDING).to(inputs.dtype)
            losses = nn.functional.cross_entropy(self.layers(inputs), targets.clamp(min=0), reduction="none")
            loss = (losses * there).sum() / there.sum().clamp(min=self.divisor_from)
        return loss if self.counts is None else {"loss": loss, "num_items": self.counts(targets)}

    def expected(self) -> tuple[Tensor, list[Tensor]]:
        """The loss of the one big batch and its gradients, in float64."""
        layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
        layers.load_state_dict(self.layers.state_dict())
        inputs, targets = (torch.cat(parts) for parts in zip(*self.window, strict=True))
        with torch.enable_grad():
            loss = nn.functional.cross_entropy(layers(inputs.double()), targets)
            gradients = torch.autograd.grad(loss, list(layers.parameters()))
        return loss.detach(), list(gradients)

    def compare(self, *step: Any) -> None:
        _, expected = self.expected()
        if self.clip is not None:
            norm = torch.cat([gradient.flatten() for gradient in expected]).norm()
            assert norm > self.clip
            expected = [gradient * (self.clip / (norm + 1e-6)) for gradient in expected]
        gradients = [parameter.grad.double() for parameter in self.layers.parameters()]
        found, wanted = (torch.cat([gradient.flatten() for gradient in each]) for each in (gradients, expected))
        self.errors.append(((found - wanted).norm() / wanted.norm()).item())

    def after_step(self, *step: Any) -> None:
        self.in_windows.append(len(self.window))
        self.window = []

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.layers.parameters())
        optimizer.register_step_pre_hook(self.compare)
        optimizer.register_step_post_hook(self.after_step)
        return optimizer


def tokens(targets: Tensor) -> Tensor:
    return (targets != PADDING).sum()


def assert_exact(model: Tagger, tolerance: float = RELATIVE[torch.float32]) -> None:
    assert model.errors
    assert max(model.errors) <= tolerance  # not a number fails, too


@pytest.mark.parametrize(("loader", "make_optimizer"), [(list, sgd), (unsized, adam)], ids=["sized", "unsized"])
@pytest.mark.parametrize(("rows", "counts"), [(equal, None), (unequal, tokens)], ids=["alike", "tokens"])
@pytest.mark.parametrize("window", [1, 2, 3, 4, 5, 6, 7])
def test_every_window_and_every_tail(
    bare_trainer: MakeTrainer, window: int, rows: Any, counts: Any, loader: Any, make_optimizer: Any
) -> None:
    lengths = range(1, 16)
    model = Tagger(*[loader(rows(length)) for length in lengths], counts=counts, make_optimizer=make_optimizer)
    bare_trainer(max_epochs=15, accumulate_grad_batches=window, reload_dataloaders_every_n_epochs=1).fit(model)
    assert_exact(model)
    assert model.in_windows == [min(window, length - start) for length in lengths for start in range(0, length, window)]


def test_batches_of_the_same_number_of_items_count_alike(bare_trainer: MakeTrainer) -> None:
    weights = []
    for counts in (None, tokens):
        model = Tagger(equal(7), counts=counts)
        bare_trainer(max_epochs=1, accumulate_grad_batches=4).fit(model)
        weights.append(model.layers[0].weight)
    torch.testing.assert_close(*weights, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("rows", "counts"), [(equal, None), (unequal, tokens)], ids=["alike", "tokens"])
@pytest.mark.parametrize("loader", [list, unsized], ids=["sized", "unsized"])
def test_an_open_window_is_its_gradients_and_a_few_numbers(bare_trainer: MakeTrainer, loader: Any, rows: Any, counts: Any) -> None:
    class Interrupted(Tagger):
        def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
            optimize = self.trainer.fit_loop.epoch_loop.optimize
            if optimize.held:
                state = optimize.window_state()
                assert {type(value) for value in state.values()} <= {int, float}
                optimize.begin_epoch()
                optimize.restore_window(state)

    model = Interrupted(loader(rows(8)), counts=counts)
    bare_trainer(max_epochs=1, accumulate_grad_batches=3).fit(model)
    assert_exact(model)
    assert model.in_windows == [3, 3, 2]


def test_the_mean_of_means_is_another_one(bare_trainer: MakeTrainer) -> None:
    model = Tagger(unequal(5))
    bare_trainer(max_epochs=1, accumulate_grad_batches=5).fit(model)
    assert max(model.errors) > 0.1


@pytest.mark.parametrize("loader", [list, unsized], ids=["sized", "unsized"])
@pytest.mark.parametrize("window", [2, 5])
def test_in_float64_to_the_last_digits(bare_trainer: MakeTrainer, window: int, loader: Any) -> None:
    for rows, counts in ((equal, None), (unequal, tokens)):
        model = Tagger(loader(rows(8)), counts=counts, dtype=torch.float64)
        bare_trainer(max_epochs=1, accumulate_grad_batches=window, precision="64-true").fit(model)
        assert_exact(model, RELATIVE[torch.float64])


@pytest.mark.parametrize(
    "counts", [lambda targets: int(tokens(targets)), lambda targets: float(tokens(targets)), lambda targets: tokens(targets)[None]]
)
def test_the_number_may_be_any_number(bare_trainer: MakeTrainer, counts: Any) -> None:
    model = Tagger(unequal(4), counts=counts)
    bare_trainer(max_epochs=1, accumulate_grad_batches=3).fit(model)
    assert_exact(model)


def window_of_step(step: int) -> int:
    return 1 + step % 3


@pytest.mark.parametrize("loader", [list, unsized], ids=["sized", "unsized"])
@pytest.mark.parametrize(
    ("options", "windows"),
    [
        ({"limit_train_batches": 5, "accumulate_grad_batches": 3}, [3, 2]),
        ({"max_steps": 2, "accumulate_grad_batches": 3}, [3, 3]),
        ({"accumulate_grad_batches": window_of_step}, [1, 2, 3, 1]),
        ({"accumulate_grad_batches": 4, "micro_batch_size": 2}, [4, 3]),
        ({"micro_batch_size": 1}, [1] * 7),
    ],
)
def test_whatever_ends_a_window(bare_trainer: MakeTrainer, options: dict[str, Any], windows: list[int], loader: Any) -> None:
    model = Tagger(loader(unequal(7)), counts=tokens)
    bare_trainer(**{"max_epochs": 1, **options}).fit(model)
    assert_exact(model)
    if "micro_batch_size" not in options:  # which counts pieces
        assert model.in_windows == windows
    assert len(model.in_windows) == len(windows)


@pytest.mark.parametrize("micro", [None, 2])
@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("skipped", [(0,), (1, 2), (6,)])
def test_what_holds_nothing_adds_nothing(bare_trainer: MakeTrainer, skipped: tuple[int, ...], window: int, micro: int | None) -> None:
    for loader in (list, unsized):
        models = (
            Tagger(loader(unequal(7)), counts=tokens, skipped=skipped),
            Tagger(loader(unequal(7, empty=skipped)), counts=tokens, divisor_from=0),
        )
        for model in models:
            trainer = bare_trainer(max_epochs=1, accumulate_grad_batches=window, micro_batch_size=micro)
            trainer.fit(model)
            assert_exact(model)
            assert trainer.global_step == len(model.in_windows)
        assert len(models[0].in_windows) == len(models[1].in_windows)


def test_clipping_sees_the_mean_over_items(bare_trainer: MakeTrainer) -> None:
    model = Tagger(unequal(7), counts=tokens)
    model.clip = 0.05
    bare_trainer(max_epochs=1, accumulate_grad_batches=3, gradient_clip_val=0.05).fit(model)
    assert_exact(model)


def test_a_gradient_scaler_is_not_led_out_of_its_range(bare_trainer: MakeTrainer) -> None:
    """Thousands of tokens times the scale would be more than half precision holds."""
    model = Tagger(unequal(7), counts=lambda targets: 10_000 * tokens(targets))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    precision = MixedPrecision("16-mixed", scaler=scaler)
    bare_trainer(max_epochs=1, accumulate_grad_batches=3, plugins=precision).fit(model)
    assert_exact(model, 0.02)
    assert model.in_windows == [3, 3, 1]
    assert scaler.get_scale() == 2.0**12


# -- numbers that lie on a device ------------------------------------------------------------------------------------------


class Unread(TorchDispatchMode):
    """Fails where a tensor is read, for which a device would have to be waited for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("empty", [(), (0,), (1, 2), (6,)])
def test_a_number_on_a_device_is_not_read(
    bare_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, empty: tuple[int, ...], window: int
) -> None:
    monkeypatch.setattr("lx.loops.optimize.items_in", lambda output, exact: output["num_items"].to(exact))

    class Watched(Tagger):
        def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
            self.unread = Unread()
            self.unread.__enter__()

        def compare(self, *step: Any) -> None:
            self.unread.__exit__(None, None, None)
            if any(tokens(targets) for _, targets in self.window):
                super().compare()
            else:  # nobody knows that this window holds nothing
                assert all(not parameter.grad.any() for parameter in self.layers.parameters())
            self.unread.__enter__()

        def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
            self.unread.__exit__(None, None, None)

    for divisor_from in (None, 1):  # torch's mean over nothing is no number, and its gradient is 0
        model = Watched(unequal(7, empty=empty), counts=tokens, divisor_from=divisor_from)
        bare_trainer(max_epochs=1, accumulate_grad_batches=window).fit(model)
        assert_exact(model)
        assert len(model.in_windows) == -(-7 // window)


# -- steps of other kinds --------------------------------------------------------------------------------------------------


class Evaluates(torch.optim.SGD):
    """Evaluates the loss twice in a step, and tells what it was."""

    def step(self, closure: Any = None) -> Any:
        for _ in range(2):
            with torch.enable_grad():
                loss = closure()
            self.evaluated(loss)
        super().step()
        return loss


@pytest.mark.parametrize("micro", [None, 2])
@pytest.mark.parametrize("loader", [list, unsized], ids=["sized", "unsized"])
@pytest.mark.parametrize("window", [1, 2, 3])
def test_each_evaluation_is_of_all_items(bare_trainer: MakeTrainer, window: int, loader: Any, micro: int | None) -> None:
    class Evaluated(Tagger):
        def configure_optimizers(self) -> Any:
            optimizer = Evaluates(self.layers.parameters(), lr=0.1)
            optimizer.evaluated = self.evaluated
            return optimizer

        def evaluated(self, loss: Tensor) -> None:
            if any(tokens(targets) for _, targets in self.window):
                torch.testing.assert_close(loss.double(), self.expected()[0], rtol=1e-6, atol=0)
                self.compare()
            else:
                assert loss == 0
                assert all(parameter.grad is None for parameter in self.layers.parameters())
            self.after_step()

    model = Evaluated(loader(unequal(7, empty=(3,))), counts=tokens)
    bare_trainer(max_epochs=1, accumulate_grad_batches=window, micro_batch_size=micro).fit(model)
    assert_exact(model)


def test_several_optimizers(bare_trainer: MakeTrainer) -> None:
    class Several(Tagger):
        def configure_optimizers(self) -> Any:
            first, second = (sgd(layer.parameters()) for layer in (self.layers[0], self.layers[2]))
            first.register_step_pre_hook(self.compare)
            second.register_step_post_hook(self.after_step)
            return [first, second]

    model = Several(unequal(7), counts=tokens)
    bare_trainer(max_epochs=1, accumulate_grad_batches=3).fit(model)
    assert_exact(model)
    assert model.in_windows == [3, 3, 1]


# -- what is said and refused ----------------------------------------------------------------------------------------------


def test_the_end_of_a_batch_sees_its_loss_divided_and_the_number(bare_trainer: MakeTrainer) -> None:
    seen: list[Any] = []

    class Returns(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return {"loss": self.weight * 8, "num_items": batch_idx * 3, "name": "a"}

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            seen.append(outputs)

        def configure_optimizers(self) -> Any:
            return sgd(self.parameters())

    bare_trainer(max_epochs=1, accumulate_grad_batches=3).fit(Returns(), list(torch.zeros(3, 1)))
    assert seen == [{}, {"loss": 8 / 3, "num_items": 3, "name": "a"}, {"loss": 8 / 3, "num_items": 6, "name": "a"}]
    assert not seen[1]["loss"].requires_grad


@pytest.mark.parametrize("given", [(True, False), (False, True)])
def test_numbers_for_some_batches_only_are_refused(bare_trainer: MakeTrainer, given: tuple[bool, bool]) -> None:
    class Some(Tagger):
        def training_step(self, batch: Batch, batch_idx: int) -> Any:
            self.counts = tokens if given[batch_idx] else None
            return super().training_step(batch, batch_idx)

    with pytest.raises(MisconfigurationException, match=r"training_step, for batch 1, returned .*'num_items'.* for each batch or for none"):
        bare_trainer(max_epochs=1, accumulate_grad_batches=2).fit(Some(unequal(2)))


@pytest.mark.parametrize("number", [-1, float("nan"), float("inf"), "3", [3], torch.ones(2), torch.tensor(-2), 1j])
def test_what_is_no_number_of_items_is_refused(bare_trainer: MakeTrainer, number: Any) -> None:
    with pytest.raises(MisconfigurationException, match="as 'num_items'; it must be the number of samples or tokens"):
        bare_trainer(max_epochs=1).fit(Tagger(unequal(1), counts=lambda targets: number))
