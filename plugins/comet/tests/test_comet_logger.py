import functools
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import comet_ml
import pytest
import torch

from lx import Trainer
from lx.interfaces.logger import Point
from lx.kernel.errors import ComponentArgumentError, MisconfigurationException
from lx.rank_zero import LightningDeprecationWarning, rank_zero_only
from lx.testing import TinyDataModule, TinyModule
from lx.testing.conformance.logger import LoggerConformance
from lx_plugin_comet.logger import CometLogger

QUIET = {
    "log_env_details": False, "log_code": False, "log_git_metadata": False, "log_git_patch": False, "parse_args": False,
    "auto_output_logging": False, "display_summary_level": 0,
}  # fmt: skip
KEY = "0123456789abcdef" * 2


def archives(logger):
    return sorted(Path(logger.save_dir).glob(f"{logger.version}*.zip"))


def messages(logger, kind):
    """All messages of a kind, of all archives of an experiment, in the order in which they were written."""
    found = []
    for path in archives(logger):
        with zipfile.ZipFile(path) as archive:
            lines = map(json.loads, archive.read("messages.json").decode().splitlines())
            found += [line["payload"] for line in lines if line["type"] == kind]
    return sorted(found, key=lambda one: one.get("local_timestamp", 0))


def metrics(logger):
    """Step, name and value of each metric; the epoch of a message is a metric of that name."""
    found = [one["metric"] for one in messages(logger, "metric_msg") if one["metric"]["metricName"] != "process duration"]
    epochs = {(one["step"], "epoch", float(one["epoch"])) for one in found if one["epoch"] is not None}
    return [(one["step"], one["metricName"], float(one["metricValue"])) for one in found] + sorted(epochs)


def parameters(logger):
    """The hyperparameters, without the counters that Comet adds."""
    found = [one["param"] for one in messages(logger, "parameter_msg")]
    return {one["paramName"]: one["paramValue"] for one in found if one["source"] == "manual"}


@pytest.fixture
def make(tmp_path):
    """Makes a logger that writes archives to the folder of a test, and of which nothing is logged but what the test logs."""
    return functools.partial(CometLogger, **QUIET, online=False, offline_directory=str(tmp_path))


class TestComet(LoggerConformance):
    component = f"comet(online=False, {', '.join(f'{name}={value!r}' for name, value in QUIET.items())})"

    @pytest.fixture
    def make(self, folder):
        return functools.partial(self.build, offline_directory=str(folder))

    def read(self, logger):
        return metrics(logger)


def test_importing_and_building_it_does_not_import_comet():
    code = "import sys; from lx_plugin_comet.logger import CometLogger; CometLogger().version; sys.exit('comet_ml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_archive_holds_all_and_says_whose_it_is(make):
    logger = make(project="digits", workspace="me", experiment_key=KEY, name="first", tags=["a"])
    logger.log_hyperparams({"lr": 0.1, "net": {"width": 8, "act": len}})
    logger.log_metrics({"loss": torch.tensor(0.5), "epoch": 2}, 7)
    logger.log_graph(torch.nn.Linear(2, 1))
    logger.finalize("success")
    assert [path.name[:32] for path in archives(logger)] == [KEY]
    with zipfile.ZipFile(archives(logger)[0]) as archive:
        described = json.loads(archive.read("experiment.json"))
    assert {name: described[name] for name in ("offline_id", "project_name", "workspace", "tags", "resume_strategy")} == {
        "offline_id": KEY,
        "project_name": "digits",
        "workspace": "me",
        "tags": ["a"],
        "resume_strategy": "get_or_create",
    }
    assert metrics(logger) == [(7, "loss", 0.5), (7, "epoch", 2.0)]
    assert parameters(logger) == {"lr": 0.1, "net/width": 8, "net/act": "builtins.len"}
    others = {one["key"]: one["value"] for one in messages(logger, "log_other")}
    assert (others["Name"], others["Created from"]) == ("first", "lx")
    assert "Linear(in_features=2, out_features=1, bias=True)" in messages(logger, "graph")[0]["graph"]
    assert (logger.name, logger.version, logger.log_dir) == ("digits", KEY, None)


def test_each_run_of_a_trainer_is_an_archive_of_one_experiment(make):
    logger = make()
    for step in range(2):
        logger.log_metrics({"a": float(step)}, step)
        logger.finalize("success")
    assert len(archives(logger)) == 2
    assert metrics(logger) == [(0, "a", 0.0), (1, "a", 1.0)]


def test_the_epoch_of_the_trainer_is_that_of_the_values(make):
    logger = make()
    logger.point = Point(step=3, epoch=1, samples=8, seconds=1.0, walltime=0.0)
    logger.log_metrics({"a": 1.0}, 3)
    logger.finalize("success")
    assert metrics(logger) == [(3, "a", 1.0), (3, "epoch", 1.0)]


def test_values_that_are_no_numbers(make):
    with pytest.raises(TypeError, match="the metric 'note' is 'good', and Comet takes numbers"):
        make().log_metrics({"note": "good"}, 0)


def test_loggers_take_turns_and_lose_nothing(make):
    first, second = make(), make()
    for step in range(3):
        first.log_metrics({"a": float(step)}, step)
        second.log_metrics({"b": float(step)}, step)
    for logger in (first, second):
        logger.finalize("success")
    assert metrics(first) == [(step, "a", float(step)) for step in range(3)]
    assert metrics(second) == [(step, "b", float(step)) for step in range(3)]


def test_an_experiment_of_the_program_is_used_and_left_open(make, tmp_path):
    def start():
        config = comet_ml.ExperimentConfig(**QUIET, offline_directory=str(tmp_path))
        return comet_ml.start(online=False, experiment_config=config)

    own = start()
    assert make(mode="create").version != own.get_key()
    assert make(experiment_key=KEY).version == KEY
    logger = make()
    logger.log_metrics({"a": 1.0}, 0)
    assert logger.experiment is own
    logger.finalize("success")
    assert not own.ended
    own.end()
    assert metrics(logger) == [(0, "a", 1.0)]
    assert logger.version == own.get_key() != make().version


@pytest.mark.parametrize(
    ("former", "present"),
    [
        ({"offline": True}, {"online": False}),
        ({"offline": False}, {"online": True}),
        ({"project_name": "a"}, {"project": "a"}),
        ({"experiment_name": "b"}, {"name": "b"}),
        ({"save_dir": "c"}, {"offline_directory": "c"}),
        ({"rest_api_key": "d"}, {}),
    ],
)
def test_former_names_are_understood(monkeypatch, former, present):
    calls = []

    def start(**arguments):
        calls.append(arguments | vars(arguments.pop("experiment_config")))
        return SimpleNamespace(ended=False, get_key=lambda: KEY, log_other=lambda *args: None)

    with pytest.warns(LightningDeprecationWarning, match=next(iter(former))):
        logger = CometLogger(**former, experiment_key=KEY)
    monkeypatch.setattr(comet_ml, "start", start)
    _ = logger.experiment, CometLogger(**present, experiment_key=KEY).experiment
    assert calls[0] == calls[1]
    assert present.items() <= calls[0].items()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"offline": True, "online": True}, "both offline=True and online=True: leave offline away"),
        ({"project_name": "a", "project": "b"}, "both project_name='a' and project='b'"),
        ({"mode": "new"}, "mode='new': it must be one of get_or_create, get, create"),
        ({"mode": "get"}, "mode='get' continues an experiment, and needs its experiment_key"),
    ],
)
def test_arguments_that_cannot_be_meant(arguments, message):
    with pytest.raises(MisconfigurationException, match=message):
        CometLogger(**arguments)


def test_an_argument_that_comet_does_not_know(make):
    logger = make(colour="red")
    with pytest.raises(ComponentArgumentError, match=r"unexpected argument 'colour'\. Beside its own it takes .*offline_directory"):
        logger.log_metrics({"a": 1.0})


def test_online_it_waits_for_what_was_sent_and_stays_open(monkeypatch):
    calls = []

    def start(**arguments):
        calls.append((arguments["experiment_key"], arguments["mode"], arguments["online"], arguments["api_key"]))
        return SimpleNamespace(
            ended=False,
            get_key=lambda: KEY,
            log_other=lambda *args: None,
            log_metrics=lambda *args, **kwargs: calls.append((args, kwargs)),
            flush=lambda: calls.append("flush"),
        )

    monkeypatch.setattr(comet_ml, "start", start)
    logger = CometLogger(api_key="secret", experiment_key=KEY, mode="create", prefix="run")
    logger.finalize("success")
    assert calls == []
    logger.log_metrics({"a": 1, "epoch": 2}, 3)
    logger.finalize("success")
    sent = (({"run-a": 1.0},), {"step": 3, "epoch": 2})
    assert calls == [(KEY, "create", None, "secret"), sent, "flush"]
    logger.log_metrics({"a": 1, "epoch": 2}, 3)
    assert calls[3:] == [sent]
    logger.experiment.ended = True
    _ = logger.experiment
    assert calls[4:] == [(KEY, "get_or_create", None, "secret")]


def test_a_copy_in_another_process_writes_to_the_same_experiment(make, tmp_path):
    logger = make()
    (tmp_path / "logger.pickle").write_bytes(pickle.dumps(logger))
    code = "import pickle, sys; logger = pickle.load(open(sys.argv[1], 'rb')); logger.log_metrics({'a': 1.0}, 0); logger.finalize('failed')"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "logger.pickle")], check=True)
    logger.log_metrics({"b": 2.0}, 1)
    logger.finalize("success")
    assert metrics(logger) == [(0, "a", 1.0), (1, "b", 2.0)]


def test_other_ranks_start_nothing(make, tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = make()
    logger.log_metrics({"a": 1.0})
    logger.experiment.log_image(None)
    logger.finalize("success")
    pickle.dumps(logger)
    assert (logger.version, make(experiment_key=KEY).version) == (None, KEY)
    assert os.listdir(tmp_path) == []


class Logs(TinyModule):
    """Logs a value that rises."""

    def __init__(self, width=8):
        super().__init__()
        self.save_hyperparameters()

    def training_step(self, batch, batch_idx):
        self.log("rise", float(self.global_step))
        return super().training_step(batch, batch_idx)


def test_a_training(make, tmp_path):
    trainer = Trainer(
        accelerator="cpu", max_epochs=2, limit_train_batches=2, limit_val_batches=0, log_every_n_steps=1, default_root_dir=tmp_path,
        logger=make(), enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Logs(), TinyDataModule())
    assert [one for one in metrics(trainer.logger) if one[1] == "rise"] == [(step, "rise", float(step)) for step in range(4)]
    assert {(step, value) for step, name, value in metrics(trainer.logger) if name == "epoch"} == {(0, 0), (1, 0), (2, 1), (3, 1)}
    assert parameters(trainer.logger) == {"width": 8}
