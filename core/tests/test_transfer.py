"""The way of a batch to the device: which hooks are on it, in which order, and what is left out."""

from typing import Any

import pytest
import torch

from lx import LightningDataModule, LightningModule
from lx.data.transfer import HOOKS, compile_transfer
from lx.dispatch import Dispatch
from lx.interfaces.precision import Precision
from lx.testing import FakeProfiler

CPU, META = torch.device("cpu"), torch.device("meta")


class Log:
    site = None


def compiled(
    module: Any = None,
    datamodule: Any = None,
    *,
    device: torch.device = CPU,
    precision: Any = None,
    profiler: Any = None,
    non_blocking: bool = False,
) -> Any:
    module = LightningModule() if module is None else module
    dispatch = Dispatch(None, module, [], Log(), base=LightningModule, profiler=profiler)
    return compile_transfer(module, datamodule, device, precision or Precision(), non_blocking, dispatch)


class Notes:
    """Adds what passes by to the batch, which is a list."""

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [*batch, f"{type(self).__name__} before {dataloader_idx}"]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return [*batch, f"{type(self).__name__} to {device} {dataloader_idx}"]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [*batch, f"{type(self).__name__} after {dataloader_idx}"]


class NotingModule(Notes, LightningModule): ...


class NotingData(Notes, LightningDataModule): ...


class Converts(Precision):
    def convert_input(self, data: Any) -> Any:
        return [*data, "precision"]


def test_a_batch_is_converted_and_then_goes_through_the_three_hooks() -> None:
    transfer = compiled(NotingModule(), precision=Converts(), device=META)
    assert transfer([], 2) == ["precision", "NotingModule before 2", "NotingModule to meta 2", "NotingModule after 2"]
    assert transfer([])[-1] == "NotingModule after 0"


def test_the_data_modules_hooks_win_each_by_itself_and_are_told_of() -> None:
    class HalfNotingData(LightningDataModule):
        on_after_batch_transfer = Notes.on_after_batch_transfer

    with pytest.warns(UserWarning, match="HalfNotingData and NotingModule both override on_after_batch_transfer"):
        transfer = compiled(NotingModule(), HalfNotingData())
    assert transfer([], 0) == ["NotingModule before 0", "NotingModule to cpu 0", "HalfNotingData after 0"]
    assert compiled(LightningModule(), NotingData())([], 0)[0] == "NotingData before 0"


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_nobody_overrides_is_left_out(hook: str) -> None:
    only = type("Only", (LightningModule,), {hook: getattr(Notes, hook)})
    assert len(compiled(only())([], 0)) == 1
    assert len(compiled(LightningModule())([], 0)) == 0


def test_a_hook_set_on_the_instance_counts() -> None:
    module = LightningModule()
    module.on_after_batch_transfer = lambda batch, dataloader_idx: "changed"
    assert compiled(module)("batch", 0) == "changed"


@pytest.mark.parametrize("alone", ["converts", "before", "after"])
def test_the_default_move_stands_between_the_other_hooks(alone: str) -> None:
    module = LightningModule()
    seen: list[str] = []

    def look(batch: Any, dataloader_idx: int = 0) -> Any:
        seen.append(batch.device.type)
        return batch

    class Looks(Precision):
        def convert_input(self, data: Any) -> Any:
            return look(data)

    if alone != "converts":
        setattr(module, f"on_{alone}_batch_transfer", look)
    transfer = compiled(module, device=META, precision=Looks() if alone == "converts" else None)
    assert transfer(torch.ones(1), 0).device == META
    assert seen == ["meta" if alone == "after" else "cpu"]


def test_where_nothing_is_to_be_done_a_batch_on_the_cpu_stays_itself() -> None:
    transfer = compiled()
    for batch in (torch.ones(1), (torch.ones(1), torch.ones(2)), [torch.ones(1)], {"x": torch.ones(1)}, (torch.ones(1), "label"), 3):
        assert transfer(batch, 0) is batch


def test_what_is_on_another_device_moves_to_the_cpu_wherever_it_is() -> None:
    class Elsewhere:
        """Knows how to move itself."""

        def to(self, device: torch.device) -> str:
            return f"moved to {device}"

    transfer = compiled()
    assert transfer(Elsewhere(), 0) == "moved to cpu"
    assert transfer((torch.ones(1), Elsewhere()), 0)[1] == "moved to cpu"
    assert transfer({"x": [Elsewhere()]}, 0)["x"] == ["moved to cpu"]
    away = torch.ones(1, device="meta")
    for batch in (away, (torch.ones(1), away), [away]):
        with pytest.raises(NotImplementedError, match="meta"):  # nothing can leave the meta device; that it is tried is enough
            transfer(batch, 0)


def test_everything_in_a_batch_moves_to_a_device() -> None:
    moved = compiled(device=META)({"x": torch.ones(1), "y": (torch.ones(1), "label")}, 0)
    assert (moved["x"].device, moved["y"][0].device, moved["y"][1]) == (META, META, "label")


@pytest.mark.parametrize("non_blocking", [True, False])
def test_copies_overlap_with_work_where_the_accelerator_says_so(non_blocking: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device, **options: asked.append(options) or self)
    compiled(device=META, non_blocking=non_blocking)([torch.ones(1)], 0)
    assert asked == [{"non_blocking": non_blocking}]


def test_a_profiler_sees_the_hooks_under_their_owners() -> None:
    profiler = FakeProfiler()
    with pytest.warns(UserWarning, match="both override"):
        compiled(NotingModule(), NotingData(), profiler=profiler)([], 0)
    assert [call.args[0] for call in profiler.called("start")] == [f"[LightningDataModule]NotingData.{hook}" for hook in HOOKS]
    profiler.calls.clear()
    compiled(NotingModule(), profiler=profiler)([], 0)
    assert profiler.called("stop")[0].args == ("[LightningModule]NotingModule.on_before_batch_transfer",)
