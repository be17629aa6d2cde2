"""Names of checkpoint files: templates, their errors, and finding files again."""

from pathlib import Path

import pytest
import torch

from lx.kernel.errors import MisconfigurationException
from lx_plugin_checkpoint.callback import ModelCheckpoint
from lx_plugin_checkpoint.file_names import check_template, fill_template, find_named, parse_template, settled

METRICS = {
    "epoch": 3,
    "step": 12,
    "val_loss": torch.tensor(0.123456),
    "val/acc": torch.tensor(0.9),
    "a.b": torch.tensor(2.5),
    "val": torch.tensor(7),
    "val_": 1.0,
    "a b": 4,
}


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (None, "epoch=3-step=12"),
        ("", "epoch=3-step=12"),
        ("constant", "constant"),
        ("{epoch:03d}", "epoch=003"),
        ("{epoch}-{val_loss:.2f}", "epoch=3-val_loss=0.12"),
        ("{val/acc:.2f}", "val/acc=0.90"),
        ("{a.b:.1f}", "a.b=2.5"),
        ("{a b}", "a b=4"),
        ("{val}{val_}{val_loss:.1f}", "val=7val_=1.0val_loss=0.1"),
        ("{nope}", "nope=0"),
        ("{nope:.3f}", "nope=0.000"),
        ("{epoch}_{epoch:>5}", "epoch=3_epoch=    3"),
        ("epoch={epoch}", "epoch=epoch=3"),
        ("sub/{epoch}", "sub/epoch=3"),
        ("{{x}}-{epoch}", "{x}-epoch=3"),
    ],
)
def test_templates_are_filled(template, name):
    assert ModelCheckpoint(filename=template).format_checkpoint_name(METRICS) == f"{name}.ckpt"


def test_names_of_fields_can_be_left_out():
    checkpoint = ModelCheckpoint(filename="e{epoch}-{val/acc:.2f}", auto_insert_metric_name=False)
    assert checkpoint.format_checkpoint_name(METRICS) == "e3-0.90.ckpt"
    assert ModelCheckpoint(auto_insert_metric_name=False).format_checkpoint_name(METRICS) == "3-12.ckpt"


def test_version_prefix_and_folder_are_part_of_the_path(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path)
    assert checkpoint.format_checkpoint_name(METRICS, "{epoch}", ver=2) == str(tmp_path / "epoch=3-v2.ckpt")
    assert checkpoint.format_checkpoint_name(METRICS, prefix="pre", ver=1) == str(tmp_path / "pre-epoch=3-step=12-v1.ckpt")


def test_the_signs_in_names_can_be_changed():
    class Mine(ModelCheckpoint):
        CHECKPOINT_JOIN_CHAR = "+"
        CHECKPOINT_EQUALS_CHAR = "_"
        FILE_EXTENSION = ".pt"

    assert Mine().format_checkpoint_name(METRICS, ver=5) == "epoch_3+step_12+v5.pt"


def test_an_integer_format_takes_the_whole_part_of_a_float():
    assert fill_template("{epoch:03d}", {"epoch": torch.tensor(3.0)}) == "epoch=003"


@pytest.mark.parametrize("template", ["{}", "{epoch", "epoch}", "{epoch:{step}}", "{epoch:nonsense}"])
def test_what_is_no_template_is_refused_at_once(template):
    with pytest.raises(MisconfigurationException, match="filename="):
        ModelCheckpoint(filename=template)


def test_only_the_metrics_that_are_named_are_read():
    class Untouchable:
        def __format__(self, form):
            raise AssertionError("this metric was read")

    assert fill_template("{epoch}", {"epoch": 1, "other": Untouchable()}) == "epoch=1"
    with pytest.raises(AssertionError):
        fill_template("{other}", {"other": Untouchable()})


def test_pieces_keep_what_is_not_python_in_a_name():
    assert parse_template("{loss!r}") == [("", "loss!r", "")]
    check_template("{loss[0]:.2f}")


def test_files_named_by_a_template_are_found_whatever_their_values():
    names = ("last.ckpt", "last-v1.ckpt", "last-v12.ckpt", "lastly.ckpt", "epoch=3-last.ckpt", "last.pt", "best.ckpt")
    assert find_named(names, "last", "-", ".ckpt") == {"last.ckpt", "last-v1.ckpt", "last-v12.ckpt"}
    assert find_named(names, "{epoch}-last", "-", ".ckpt") == {"epoch=3-last.ckpt"}
    assert find_named((), "last", "-", ".ckpt") == set()


def test_folders_are_absolute_or_urls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settled("here") == str(tmp_path / "here")
    assert settled("~/there") == str(tmp_path / "there")
    assert settled("file:///here/") == "/here"
    assert ModelCheckpoint(Path("S3://bucket/x/")).format_checkpoint_name({"epoch": 1, "step": 2}) == "s3://bucket/x/epoch=1-step=2.ckpt"
