"""A LightningModule that a Fabric runs: whatever it asks of its trainer, the Fabric does, or it is told that nobody does."""

import copy
import gc
from typing import Any

import pytest
import torch
from torch import nn

from lx import Fabric, LightningModule, Trainer
from lx.interfaces.precision import PrecisionCapabilities
from lx.kernel import PluginManager
from lx.kernel.errors import MisconfigurationException
from lx.testing import FakeLogger, FakePrecision, fake_plugin_manager


class Model(LightningModule):
    """Optimizes by hand, with everything that such a step may call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.automatic_optimization = False
        self.told: list[str] = []

    def forward(self, rows: torch.Tensor) -> Any:
        return self.layer(rows)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = self(batch).sum()
        self.manual_backward(loss)
        self.clip_gradients(optimizer, gradient_clip_val=1.0, gradient_clip_algorithm="norm")
        optimizer.step()
        self.log("loss", loss, prog_bar=True, on_epoch=True)
        self.log_dict({"a": 1.0, "b": torch.tensor(2.0)})
        return loss

    def on_train_epoch_end(self) -> None:
        self.told.append(f"epoch {self.current_epoch} ended")

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.5)


def made() -> Any:
    """A model of which methods may be replaced."""
    return Model()


class Scaling(FakePrecision):
    """A precision that scales losses."""

    capabilities = PrecisionCapabilities(scales_loss=True)

    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        return loss * 8


ROWS = torch.tensor([[3.0, 4.0]])


def fabric_with(manager: PluginManager, **options: Any) -> Fabric:
    return Fabric(manager=manager, loggers=[FakeLogger()], **options)


def logged(fabric: Fabric) -> list[Any]:
    return [call.kwargs["metrics"] for call in fabric.logger.called("log_metrics")]


def test_a_step_does_with_a_fabric_what_it_does_with_a_trainer(plugin_manager: PluginManager) -> None:
    fabric, module = fabric_with(plugin_manager), Model()
    model, optimizer = fabric.setup(module, module.configure_optimizers())
    before = module.layer.weight.detach().clone()
    loss = model.training_step(ROWS, 0)
    assert torch.allclose(torch.linalg.vector_norm(module.layer.weight - before), torch.tensor(0.5 * 5 / 26**0.5))  # clipped to 1
    assert logged(fabric) == [{"loss": loss.item()}, {"a": 1.0, "b": 2.0}]
    assert (module.fabric, module.logger, module.loggers) == (fabric, fabric.logger, fabric.loggers)
    assert module.optimizers() is optimizer
    assert module.optimizers(use_pl_optimizer=False) is optimizer.optimizer


def test_values_that_are_no_single_number_are_refused_and_others_kept_from_loggers(plugin_manager: PluginManager) -> None:
    fabric, module = fabric_with(plugin_manager), Model()
    fabric.setup(module)
    with pytest.raises(ValueError, match=r"self\.log\('x'\): a mapping cannot be logged as one value"):
        module.log("x", {"a": 1.0})
    with pytest.raises(ValueError, match="'x' is a tensor of 2 elements"):
        module.log("x", torch.ones(2))
    module.log("x", 1.0, logger=False)
    module.log_dict({"y": 2.0}, logger=False)
    assert logged(fabric) == []
    module.log("x", 1.0, True, True, sync_dist=True, reduce_fx="sum")
    assert logged(fabric) == [{"x": 1.0}]


def test_optimizers_are_those_that_step_its_own_parameters(plugin_manager: PluginManager) -> None:
    fabric, one, other = fabric_with(plugin_manager), Model(), Model()
    fabric.setup(one)
    _, of_other = fabric.setup(other, other.configure_optimizers())
    assert one.optimizers() == []
    first, second = fabric.setup_optimizers(*(torch.optim.SGD([parameter], lr=0.1) for parameter in one.parameters()))
    assert one.optimizers() == [first, second]
    assert other.optimizers() is of_other
    assert fabric.optimizers == [of_other, first, second]
    one.toggle_optimizer(second)
    assert [parameter.requires_grad for parameter in one.parameters()] == [False, True]
    one.untoggle_optimizer(second)
    assert all(parameter.requires_grad for parameter in one.parameters())
    del first, second, of_other
    gc.collect()
    assert fabric.optimizers == []


def test_clipping_is_by_norm_unless_told_by_value(plugin_manager: PluginManager) -> None:
    fabric, module = fabric_with(plugin_manager), Model()
    _, optimizer = fabric.setup(module, module.configure_optimizers())
    for arguments, expected in (((2.0,), [1.2, 1.6]), ((2.0, "norm"), [1.2, 1.6]), ((3.5, "value"), [3.0, 3.5])):
        module.layer.weight.grad, module.layer.bias.grad = torch.tensor([[3.0, 4.0]]), torch.tensor([0.0])
        module.clip_gradients(optimizer, *arguments)
        assert torch.allclose(module.layer.weight.grad, torch.tensor([expected]))
    with pytest.raises(MisconfigurationException, match="gradient_clip_algorithm='size': it must be 'norm' or 'value'"):
        module.clip_gradients(optimizer, 1.0, "size")
    with pytest.raises(ValueError, match="either clip_val or max_norm"):
        module.clip_gradients(optimizer)


def test_its_trainer_knows_what_the_fabric_knows_and_nothing_of_the_loop(
    plugin_manager: PluginManager, capsys: pytest.CaptureFixture[str]
) -> None:
    fabric, module = fabric_with(plugin_manager), Model()
    fabric.setup(module)
    trainer = module.trainer
    assert (trainer.world_size, trainer.global_rank, trainer.is_global_zero) == (1, 0, True)
    assert (trainer.strategy, trainer.fabric) == (fabric.strategy, fabric)
    assert (module.global_rank, module.local_rank, module.device, module.on_gpu) == (0, 0, torch.device("cpu"), False)
    assert module.device_mesh is None
    assert torch.equal(module.all_gather(torch.ones(2)), torch.ones(2))
    module.print("said")
    assert capsys.readouterr().out == "said\n"
    for name in ("max_epochs", "callback_metrics", "should_stop"):
        with pytest.raises(AttributeError, match=rf"run by a Fabric, which has no trainer\.{name}: the loop is yours"):
            getattr(trainer, name)
    with pytest.raises(AttributeError, match="lr_scheduler_configs"):
        module.lr_schedulers()
    assert (module.current_epoch, module.global_step) == (0, 0)
    trainer.current_epoch, trainer.global_step = 2, 7  # the loop is the user's, and may tell
    assert (module.current_epoch, module.global_step) == (2, 7)


def test_its_hooks_hear_of_what_the_fabric_calls(plugin_manager: PluginManager) -> None:
    fabric, module = fabric_with(plugin_manager), Model()
    fabric.setup(module)
    fabric.call("on_train_epoch_end")
    assert module.told == ["epoch 0 ended"]
    again = copy.deepcopy(module)
    fabric.setup_module(again)
    assert fabric.callbacks == [module, again]


def test_setting_up_a_module_alone_is_heard_of_too(plugin_manager: PluginManager) -> None:
    class Hears:
        heard: list[Any] = []  # noqa: RUF012

        def on_after_setup(self, module: Any) -> None:
            self.heard.append(module)

    fabric = fabric_with(plugin_manager, callbacks=Hears())
    assert Hears.heard == [fabric.setup_module(Model())]


def test_modules_within_a_module_are_run_by_the_fabric_too(plugin_manager: PluginManager) -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Model()

    fabric, around = fabric_with(plugin_manager), Around()
    fabric.setup(around)
    around.inner.log("inner", 1.0)
    assert logged(fabric) == [{"inner": 1.0}]
    assert fabric.callbacks == []

    class Outer(Model):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Model()

    outer: Any = Outer()
    fabric.setup(outer)
    assert outer.inner.fabric is fabric
    outer.fabric = None
    assert outer.inner.fabric is None
    with pytest.raises(RuntimeError, match="not attached to a Trainer"):
        _ = outer.inner.trainer


def test_without_a_logger_values_go_nowhere(plugin_manager: PluginManager) -> None:
    fabric, module = Fabric(manager=plugin_manager), Model()
    fabric.setup(module)
    module.log("x", 1.0)
    assert (fabric.logger, module.logger, module.loggers) == (None, None, [])


def test_a_copy_is_run_by_nobody_and_a_trainer_takes_over(plugin_manager: PluginManager) -> None:
    fabric, module = fabric_with(plugin_manager), made()
    module.automatic_optimization = True
    _, _ = fabric.setup(module, module.configure_optimizers())
    module.manual_backward(module(ROWS).sum())  # under Fabric every optimization is by hand
    assert copy.deepcopy(module).fabric is None
    trainer = Trainer(manager=fake_plugin_manager(), max_epochs=1, barebones=True)
    module.training_step = lambda batch, batch_idx: module(batch).sum()
    trainer.fit(module, [ROWS])
    assert module.trainer is trainer
    with pytest.raises(MisconfigurationException, match="manual_backward is for manual optimization"):
        module.manual_backward(module(ROWS).sum())


# -- backward ----------------------------------------------------------------------------------------------------------------


class Pair(nn.Module):
    """Two outputs, of which one has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, rows: torch.Tensor) -> Any:
        return {"loss": self.layer(rows).sum(), "rows": rows}

    def other(self, rows: torch.Tensor) -> Any:
        return self.layer(rows).sum()


def test_a_backward_past_a_precision_that_scales_is_refused(plugin_manager: PluginManager) -> None:
    fabric = Fabric(manager=plugin_manager, precision=Scaling())
    module: Any = Pair()
    model, optimizer = fabric.setup(module, torch.optim.SGD(module.parameters(), lr=0.5))
    model.mark_forward_method("other")
    for loss in (model(ROWS)["loss"], model.other(ROWS), (model(ROWS)["loss"] * 2).exp()):
        with pytest.raises(RuntimeError, match=r"'fake' scales losses, and this backward pass goes past it; call fabric\.backward"):
            loss.backward()
    fabric.backward(model(ROWS)["loss"])
    assert module.layer.weight.grad.tolist() == [[24.0, 32.0]]
    with torch.no_grad():
        model(ROWS)
    optimizer.zero_grad()

    manual = made()
    wrapped, _ = fabric.setup(manual, manual.configure_optimizers())
    wrapped.training_step(ROWS, 0)
    manual.training_step = lambda batch, batch_idx: manual(batch).sum()
    with pytest.raises(RuntimeError, match=r"self\.manual_backward\(loss\)"):
        wrapped.training_step(ROWS, 0).backward()


def test_any_other_precision_lets_backward_be_called_on_the_loss(plugin_manager: PluginManager) -> None:
    for precision in (None, FakePrecision()):
        module: Any = Pair()
        model = Fabric(manager=plugin_manager, precision=precision).setup(module)
        model(ROWS)["loss"].backward()
        assert module.layer.weight.grad.tolist() == [[3.0, 4.0]]
