import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import plugin_data_pb2
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams as torch_hparams

from lx.kernel.errors import ComponentArgumentError
from lx.rank_zero import rank_zero_only
from lx.testing.conformance.logger import LoggerConformance
from lx_plugin_tensorboard.event_file import EventFile
from lx_plugin_tensorboard.logger import TensorBoardLogger


def load(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return accumulator


def scalars(folder):
    """(step, tag, value) of all scalars in a folder."""
    accumulator = load(folder)
    return [(event.step, tag, event.value) for tag in accumulator.Tags()["scalars"] for event in accumulator.Scalars(tag)]


def events(path):
    return list(LegacyEventFileLoader(str(path)).Load())


def event_files(folder):
    return sorted(str(path) for path in Path(folder).rglob("events.out.tfevents.*"))


class TestTensorBoard(LoggerConformance):
    component = "tensorboard"

    def read(self, logger):
        return scalars(logger.log_dir)


class TestTensorBoardThroughSummaryWriter(LoggerConformance):
    """With arguments that only a SummaryWriter understands, everything goes through one."""

    component = "tensorboard(max_queue=5, flush_secs=60)"

    def read(self, logger):
        return scalars(logger.log_dir)


LAZY = """
import sys
from lx_plugin_tensorboard.logger import TensorBoardLogger
def loaded():
    names = ("tensorboard", "tensorboard.summary", "google.protobuf", "torch.utils.tensorboard", "absl", "fsspec", "tensorflow")
    return [name for name in names if name in sys.modules]
logger = TensorBoardLogger()
logger.log_dir
built = loaded()
logger.log_hyperparams({"lr": 0.1})
logger.log_metrics({"loss": 1.0}, 0)
logger.finalize("success")
print(built, loaded())
"""


def test_only_the_messages_are_imported_and_only_to_write(tmp_path):
    done = subprocess.run([sys.executable, "-c", LAZY], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] ['tensorboard', 'google.protobuf']"


def test_one_event_holds_the_metrics_of_a_step(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"a": 1.0, "b": 2}, 7)
    logger.finalize("success")
    (path,) = event_files(tmp_path)
    first, second = events(path)
    assert first.file_version == "brain.Event:2"
    assert [(value.tag, value.simple_value) for value in second.summary.value] == [("a", 1.0), ("b", 2.0)]
    assert second.step == 7
    assert second.wall_time == pytest.approx(first.wall_time, abs=60)


KILLED = """
import os, sys
from lx_plugin_tensorboard.event_file import Event, EventFile

file = EventFile(sys.argv[1])
for step in range(5):
    event = Event(step=step)
    event.summary.value.add(tag="loss", simple_value=step)
    file.add_event(event)
os.kill(os.getpid(), 9)
"""


def test_a_killed_process_loses_no_event(tmp_path):
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False).returncode == -signal.SIGKILL
    assert scalars(tmp_path) == [(step, "loss", float(step)) for step in range(5)]


def test_a_record_that_was_cut_off_leaves_those_before_it(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    for step in range(3):
        logger.log_metrics({"loss": 1.0}, step)
    logger.finalize("success")
    (path,) = event_files(tmp_path)
    os.truncate(path, os.path.getsize(path) - 3)
    assert scalars(logger.log_dir) == [(0, "loss", 1.0), (1, "loss", 1.0)]


def test_a_damaged_record_is_noticed(tmp_path):
    """The checksums are those that TensorBoard computes."""
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"loss": 1.0}, 0)
    logger.finalize("success")
    (path,) = event_files(tmp_path)
    data = bytearray(Path(path).read_bytes())
    data[-6] ^= 1
    Path(path).write_bytes(data)
    assert scalars(logger.log_dir) == []


def test_the_file_is_opened_again_after_finalize(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    for step in range(3):
        logger.log_metrics({"loss": 1.0}, step)
        logger.finalize("success")
    (path,) = event_files(tmp_path)
    assert [event.step for event in events(path)] == [0, 0, 1, 2]


def test_scalars_and_experiment_are_read_in_order(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"loss": 0.0}, 0)
    logger.experiment.add_scalar("loss", 1.0, 1)
    logger.log_metrics({"loss": 2.0}, 2)
    logger.experiment.add_image("digit", torch.zeros(1, 4, 4), 2)
    logger.experiment.add_text("note", "hello", 2)
    logger.log_metrics({"loss": 3.0}, 3)
    logger.finalize("success")
    assert isinstance(logger.experiment, SummaryWriter)
    logger.experiment.add_scalar("loss", 4.0, 4)
    logger.log_metrics({"loss": 5.0}, 5)
    logger.finalize("success")
    accumulator = load(logger.log_dir)
    assert [(event.step, event.value) for event in accumulator.Scalars("loss")] == [(step, float(step)) for step in range(6)]
    assert accumulator.Tags()["images"] == ["digit"]
    assert accumulator.Tags()["tensors"] == ["note/text_summary"]


def test_the_experiment_may_be_closed_by_the_user(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.experiment.add_scalar("loss", 0.0, 0)
    logger.experiment.close()
    logger.log_metrics({"loss": 1.0}, 1)
    logger.finalize("success")
    assert scalars(logger.log_dir) == [(0, "loss", 0.0), (1, "loss", 1.0)]


def test_the_file_comes_after_those_that_are_there(tmp_path):
    (tmp_path / "events.out.tfevents.9999999999.host.1.0").touch()
    path = EventFile(str(tmp_path)).path
    assert os.path.basename(path).startswith("events.out.tfevents.9999999999.")
    assert not os.path.exists(path)


def test_files_of_one_process_and_second_have_names_of_their_own(tmp_path):
    files = [EventFile(str(tmp_path)) for _ in range(3)]
    for file in files:
        file.add_event(Event(step=1))
        file.close()
    assert len(event_files(tmp_path)) == 3
    assert sorted(file.path for file in files) == [file.path for file in files]


def test_dicts_are_runs_of_their_own(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"loss": 1.0, "both": {"train": 1.0, "val": 2.0}}, 3)
    logger.finalize("success")
    assert scalars(logger.log_dir) == [(3, "loss", 1.0)]
    assert scalars(Path(logger.log_dir, "both_val")) == [(3, "both", 2.0)]


@pytest.mark.parametrize("value", ["text", torch.zeros(2), None])
def test_what_is_no_number_is_an_error(tmp_path, value):
    logger = TensorBoardLogger(tmp_path)
    with pytest.raises(TypeError, match="'odd'"):
        logger.log_metrics({"odd": value}, 0)


def plugin_data(folder):
    found = {}
    for path in event_files(folder):
        for event in events(path):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "hparams":
                    data = plugin_data_pb2.HParamsPluginData.FromString(value.metadata.plugin_data.content)
                    assert value.tag not in found
                    found[value.tag] = data
    return found


PARAMS = {"lr": 0.1, "layers": 3, "name": "mlp"}


def test_hyperparameters_are_what_torch_writes(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams(PARAMS)
    logger.finalize("success")
    expected = {}
    for summary in torch_hparams(PARAMS, {"hp_metric": -1}):
        (value,) = summary.value
        expected[value.tag] = plugin_data_pb2.HParamsPluginData.FromString(value.metadata.plugin_data.content)
    assert plugin_data(logger.log_dir) == expected
    assert scalars(logger.log_dir) == [(0, "hp_metric", -1.0)]


def test_hyperparameters_keep_their_types(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams({"flag": True, "n": 1, "none": None, "sizes": [1, 2]})
    logger.finalize("success")
    values = plugin_data(logger.log_dir)["_hparams_/session_start_info"].session_start_info.hparams
    assert values["flag"].WhichOneof("kind") == "bool_value"
    assert values["n"].number_value == 1
    assert values["none"].string_value == "None"
    assert values["sizes"].string_value == "[1, 2]"


@pytest.mark.parametrize(("status", "expected"), [("success", 1), ("finished", 1), ("failed", 2)])
def test_the_hparams_tab_knows_how_the_run_ended(tmp_path, status, expected):
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams(PARAMS)
    assert "_hparams_/session_end_info" not in plugin_data(logger.log_dir)
    logger.finalize(status)
    logger.finalize("success")
    assert plugin_data(logger.log_dir)["_hparams_/session_end_info"].session_end_info.status == expected


def test_hyperparameters_with_metrics(tmp_path):
    logger = TensorBoardLogger(tmp_path, default_hp_metric=False, prefix="run")
    logger.log_hyperparams({"model": {"width": 8, "act": torch.relu}})
    assert event_files(tmp_path) == []
    logger.log_hyperparams({"lr": 0.1}, {"acc": 0.9, "loss": 0.2}, step=5)
    logger.log_metrics({"later": 1.0})
    logger.finalize("success")
    assert sorted(scalars(logger.log_dir)) == [
        (0, "run-later", 1.0),
        (5, "run-acc", pytest.approx(0.9)),
        (5, "run-loss", pytest.approx(0.2)),
    ]
    data = plugin_data(logger.log_dir)
    assert sorted(data["_hparams_/session_start_info"].session_start_info.hparams) == ["lr", "model/act", "model/width"]
    assert [info.name.tag for info in data["_hparams_/experiment"].experiment.metric_infos] == ["run-acc", "run-loss"]
    assert "width: 8" in Path(logger.log_dir, "hparams.yaml").read_text("utf-8")


def test_one_number_is_the_hp_metric(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams(PARAMS, 0.5)
    logger.finalize("success")
    assert scalars(logger.log_dir) == [(0, "hp_metric", 0.5)]


def test_hyperparameters_of_an_earlier_run_are_kept(tmp_path):
    for lr in (0.1, 0.1, 0.2):
        logger = TensorBoardLogger(tmp_path, version=0)
        logger.log_hyperparams({"lr": lr})
        logger.log_hyperparams({"more": 1})
        logger.finalize("success")
    folder = Path(logger.log_dir)
    assert {path.name: path.read_text("utf-8") for path in folder.glob("*.yaml")} == {
        "hparams.yaml": "lr: 0.2\nmore: 1\n",
        "hparams_1.yaml": "lr: 0.1\nmore: 1\n",
        "hparams_2.yaml": "lr: 0.1\nmore: 1\n",
    }


class Net(torch.nn.Module):
    def __init__(self, example=None):
        super().__init__()
        self.layer = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.BatchNorm1d(2), torch.nn.Dropout())
        self.scale = torch.nn.Parameter(torch.ones(2))
        self.register_buffer("shift", torch.zeros(2))
        if example is not None:
            self.example_input_array = example

    @property
    def early(self):
        raise RuntimeError("this property has no value yet")

    def forward(self, x, y=None):
        return self.layer(x if y is None else x + y) * self.scale + self.shift


X = torch.ones(3, 4)


@pytest.mark.parametrize("example", [X, (X, X), {"y": X, "x": X}])
def test_the_graph_of_a_model(tmp_path, example):
    logger = TensorBoardLogger(tmp_path, log_graph=True)
    model = Net(example)
    model.layer[2].eval()
    state, modes = {name: value.clone() for name, value in model.state_dict().items()}, [module.training for module in model.modules()]
    logger.log_graph(model)
    logger.finalize("success")
    accumulator = load(logger.log_dir)
    assert accumulator.Tags()["graph"]
    scopes = [node.name for node in accumulator.Graph().node]
    assert {"Net/scale/scale", "Net/shift/shift"} < set(scopes)
    assert any(scope.startswith("Net/Sequential[layer]/Linear[0]/") for scope in scopes), scopes
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert model(X).requires_grad


def test_a_model_that_cannot_be_traced_is_a_warning(tmp_path, capsys):
    logger = TensorBoardLogger(tmp_path, log_graph=True)
    with pytest.warns(UserWarning, match=r"Net cannot be traced.*shapes cannot be multiplied"):
        logger.log_graph(Net(), torch.ones(2, 3))
    logger.finalize("success")
    capsys.readouterr()


def test_no_graph_unless_asked(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_graph(Net(torch.zeros(1, 4)))
    logger.finalize("success")
    assert event_files(tmp_path) == []


def test_a_graph_without_input_is_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="Net has no example_input_array"):
        TensorBoardLogger(tmp_path, log_graph=True).log_graph(Net())
    assert event_files(tmp_path) == []


def test_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WHERE", "runs")
    logger = TensorBoardLogger("~/$WHERE", name="digits", version=4, sub_dir="fold_1")
    assert logger.save_dir == str(tmp_path / "runs")
    assert logger.root_dir == str(tmp_path / "runs" / "digits")
    assert logger.log_dir == str(tmp_path / "runs" / "digits" / "version_4" / "fold_1")
    assert (logger.name, logger.version, logger.sub_dir) == ("digits", 4, "fold_1")
    assert TensorBoardLogger(tmp_path, name=None, version="a").log_dir == str(tmp_path / "a")
    assert TensorBoardLogger(tmp_path, name="").log_dir == str(tmp_path / "version_0")


def test_a_strange_argument_is_an_error():
    with pytest.raises(ComponentArgumentError, match=r"unexpected argument 'flush_sec'.*flush_secs"):
        TensorBoardLogger(flush_sec=3)


def test_purge_step_hides_what_comes_again(tmp_path):
    for purge_step in (None, 3):
        logger = TensorBoardLogger(tmp_path, version=0, **({} if purge_step is None else {"purge_step": purge_step}))
        for step in range(purge_step or 0, 5):
            logger.log_metrics({"loss": float(purge_step or 0)}, step)
        logger.finalize("success")
        logger.log_metrics({"loss": 9.0}, 9)  # a second file of the same run, which purges nothing
        logger.finalize("success")
    assert scalars(logger.log_dir) == [
        (0, "loss", 0.0),
        (1, "loss", 0.0),
        (2, "loss", 0.0),
        (3, "loss", 3.0),
        (4, "loss", 3.0),
        (9, "loss", 9.0),
    ]


def test_a_filename_suffix(tmp_path):
    logger = TensorBoardLogger(tmp_path, filename_suffix=".mine")
    logger.log_metrics({"loss": 1.0}, 0)
    logger.finalize("success")
    (path,) = event_files(tmp_path)
    assert path.endswith(".mine")


def test_a_copy_has_a_writer_of_its_own(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.experiment.add_scalar("loss", 0.0, 0)
    copy = pickle.loads(pickle.dumps(logger))
    logger.finalize("success")
    copy.experiment.add_scalar("loss", 1.0, 1)
    copy.finalize("success")
    assert scalars(logger.log_dir) == [(0, "loss", 0.0), (1, "loss", 1.0)]


def test_other_ranks_get_an_experiment_that_does_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    TensorBoardLogger(tmp_path).experiment.add_image("digit", torch.zeros(1, 4, 4), 0)
    assert os.listdir(tmp_path) == []
