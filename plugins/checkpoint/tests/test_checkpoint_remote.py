"""Folders at URLs, in a file system of fsspec that lies in memory: what is kept there, found again, removed and refused."""

import sys
from types import SimpleNamespace

import pytest
import torch

import lx
from lx.kernel.errors import MisconfigurationException
from lx.testing.fakes import FakeLogger
from lx_plugin_checkpoint import files
from lx_plugin_checkpoint.callback import ModelCheckpoint
from lx_plugin_checkpoint.on_exception import OnExceptionCheckpoint

fsspec = pytest.importorskip("fsspec", reason="needs fsspec")
URL = "memory://bucket/run"


@pytest.fixture
def memory():
    """The names of what lies in the bucket, which is empty at first."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    return lambda: sorted(name.removeprefix("/bucket/run/") for name in store.store)


@pytest.fixture
def fit_remote(fit, tmp_path, monkeypatch):
    """Fits with the checkpoint I/O that is installed, and with no file written on this machine."""
    monkeypatch.chdir(tmp_path)

    def run(*callbacks, **settings):
        ran = fit(*callbacks, **{"plugins": lx.registry.checkpoint_io.build("torch_io"), "folder": URL, **settings})
        assert not list(tmp_path.rglob("*.ckpt")), "a checkpoint lies on this machine"
        return ran.trainer

    return run


def test_the_best_and_the_last_are_kept_and_the_others_removed(memory, fit_remote):
    checkpoint = ModelCheckpoint(URL, "{epoch}", "v", save_top_k=2, save_last=True)
    trainer = fit_remote(checkpoint, values=[3, 1, 2])
    assert memory() == ["epoch=1.ckpt", "epoch=2.ckpt", "last.ckpt"]
    assert (checkpoint.best_model_path, checkpoint.last_model_path) == (f"{URL}/epoch=1.ckpt", f"{URL}/last.ckpt")
    assert checkpoint.file_exists(f"{URL}/last.ckpt", trainer)
    assert not checkpoint.file_exists(f"{URL}/epoch=0.ckpt", trainer)
    checkpoint.to_yaml()
    written = fsspec.filesystem("memory").cat("/bucket/run/best_k_models.yaml").decode()
    assert written == f"{URL}/epoch=1.ckpt: 1.0\n{URL}/epoch=2.ckpt: 2.0\n"


def test_a_second_run_replaces_nothing_and_says_that_the_folder_is_not_empty(memory, fit_remote):
    fit_remote({"filename": "same", "save_last": True}, max_epochs=1)
    with pytest.warns(UserWarning, match="memory://bucket/run, which is not empty"):
        fit_remote({"filename": "same", "save_last": True}, max_epochs=1)
    assert memory() == ["last-v1.ckpt", "last.ckpt", "same-v1.ckpt", "same.ckpt"]


def test_the_last_one_is_gone_on_with_and_replaced(memory, fit_remote):
    fit_remote({"filename": "{epoch}", "save_last": True}, max_epochs=1)
    trainer = fit_remote({"filename": "{epoch}", "save_last": True}, max_epochs=2, ckpt_path="last")
    assert (trainer.ckpt_path, trainer.global_step) == (f"{URL}/last.ckpt", 8)
    assert memory() == ["epoch=1.ckpt", "last.ckpt"]


def test_the_newest_of_several_last_ones_is_found(memory, fit_remote):
    fit_remote({"filename": "{epoch}", "save_last": True}, max_epochs=2)
    with pytest.warns(UserWarning, match="not empty"):
        fit_remote({"filename": "{epoch}", "save_last": True}, max_epochs=1)
    trainer = fit_remote({"filename": "{epoch}"}, ckpt_path="last", max_epochs=3)
    assert trainer.ckpt_path == f"{URL}/last-v1.ckpt"


def test_what_a_run_came_from_and_what_lies_elsewhere_stays(memory, fit_remote):
    first = ModelCheckpoint(URL, "{epoch}", "v")
    fit_remote(first, values=[3], max_epochs=1)
    again = ModelCheckpoint(f"{URL}/", "{epoch}", "v")
    trainer = fit_remote(again, values=[2, 1], ckpt_path=first.best_model_path)
    assert memory() == ["epoch=0.ckpt", "epoch=2.ckpt"]
    for path in ("memory://bucket/running/a.ckpt", "/bucket/run/a.ckpt", "s3://bucket/run/a.ckpt"):
        files.remove(trainer, path, URL, "")
    files.remove(trainer, f"{URL}/epoch=0.ckpt", "/bucket/run", "")
    assert memory() == ["epoch=0.ckpt", "epoch=2.ckpt"]


def test_the_best_one_is_evaluated(memory, fit_remote):
    trainer = fit_remote({"filename": "{epoch}", "monitor": "v"}, values=[2, 1, 3, 4])
    trainer.validate(dataloaders=torch.utils.data.DataLoader(torch.ones(1, 1, 2)), ckpt_path="best", verbose=False)
    assert trainer.ckpt_path == f"{URL}/epoch=1.ckpt"


def test_a_failed_run_is_gone_on_with_by_itself(memory, fit_remote):
    fit_remote(OnExceptionCheckpoint(URL), boom=6)
    assert memory() == ["on_exception.ckpt"]
    assert fit_remote(OnExceptionCheckpoint(URL)).global_step == 12
    assert memory() == []
    assert fit_remote(OnExceptionCheckpoint(URL), max_epochs=1).global_step == 4


def test_the_root_folder_may_be_a_url(memory, fit_remote):
    checkpoint = ModelCheckpoint(filename="{epoch}", save_last=True)
    fit_remote(checkpoint, default_root_dir="memory://bucket/run/", max_epochs=1)
    assert memory() == ["checkpoints/epoch=0.ckpt", "checkpoints/last.ckpt"]
    assert checkpoint.dirpath == f"{URL}/checkpoints"
    again = fit_remote(ModelCheckpoint(save_last=True), default_root_dir=URL, max_epochs=2, ckpt_path="last")
    assert again.global_step == 8


def test_the_folder_of_a_logger_that_has_a_url_is_one():
    trainer = SimpleNamespace(loggers=[FakeLogger("runs", 3, "s3://bucket")], default_root_dir="root")
    assert files.run_folder(trainer) == "s3://bucket/runs/version_3/checkpoints"


def test_a_file_url_is_a_local_folder(fit, tmp_path):
    checkpoint = ModelCheckpoint(f"file://{tmp_path}/here", "{epoch}", save_last="link")
    ran = fit(checkpoint, max_epochs=1, folder=tmp_path / "here")
    assert ran.files == ["epoch=0.ckpt", "last.ckpt"]
    assert checkpoint.dirpath == str(tmp_path / "here")
    checkpoint.to_yaml(f"file://{tmp_path}/best.yaml")
    assert (tmp_path / "best.yaml").exists()
    rooted = fit(
        ModelCheckpoint(filename="a"), default_root_dir=f"file://{tmp_path}/root", max_epochs=1, folder=tmp_path / "root/checkpoints"
    )
    assert rooted.files == ["a.ckpt"]


def test_links_are_refused(memory, fit_remote):
    with pytest.raises(ValueError, match="there are no links in the URL 'memory://bucket/run'; save_last=True"):
        fit_remote({"save_last": "link"})
    assert memory() == []


class Prepared(Exception):
    """Raised where a run has begun."""


def begins(trainer):
    """Fits a model that raises as soon as something is done for it."""

    class Model(lx.LightningModule):
        def prepare_data(self):
            raise Prepared

        def training_step(self, batch, batch_idx): ...

        def configure_optimizers(self): ...

    trainer.fit(Model(), torch.utils.data.DataLoader(torch.ones(1, 2)))


@pytest.mark.parametrize(
    "arguments",
    [
        {"callbacks": [ModelCheckpoint("s3://bucket/run")]},
        {"callbacks": [OnExceptionCheckpoint("s3://bucket/run")]},
        {"default_root_dir": "s3://bucket/run"},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_without_fsspec_nothing_is_begun(monkeypatch, tmp_path, arguments):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = lx.Trainer(**{"default_root_dir": tmp_path, **quiet, **arguments})
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MisconfigurationException, match=r"'s3://bucket/run' is a URL.*`pip install fsspec`"):
        begins(trainer)
    with pytest.raises(MisconfigurationException, match=r"'s3://bucket/best.yaml' is a URL.*`pip install fsspec`"):
        files.write_scores("s3://bucket/best.yaml", {})


def test_a_checkpoint_io_for_local_files_refuses_urls(fit, memory):
    with pytest.raises(
        MisconfigurationException, match="'memory://bucket/run' is a URL, and the checkpoint I/O Recording does not reach URLs"
    ):
        fit(ModelCheckpoint(URL))
    assert memory() == []
