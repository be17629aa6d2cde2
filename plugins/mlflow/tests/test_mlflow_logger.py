import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient

from lx import Trainer
from lx.callbacks import ModelCheckpoint
from lx.interfaces.logger import Point
from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import rank_zero_only
from lx.testing import TinyDataModule, TinyModule
from lx_plugin_mlflow.logger import MLFlowLogger


def run(logger):
    return MlflowClient(logger._store.uri).get_run(logger.run_id)


def history(logger, name):
    return [(one.step, one.value) for one in logger.experiment.get_metric_history(logger.run_id, name)]


def artifacts(logger, folder=""):
    found = logger.experiment.list_artifacts(logger.run_id, folder)
    return [path for one in found for path in (artifacts(logger, one.path) if one.is_dir else [one.path])]


def text(logger, path):
    return Path(logger.experiment.get_run(logger.run_id).info.artifact_uri.removeprefix("file://"), path).read_text("utf-8")


def test_importing_and_building_it_does_not_import_mlflow():
    code = "import sys; from lx_plugin_mlflow.logger import MLFlowLogger; MLFlowLogger(); sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("other", [{}, {"tracking_uri": None}, {"tracking_uri": ""}])
def test_the_variable_is_read_when_a_logger_is_made(monkeypatch, tmp_path, uri, other):
    own = MLFlowLogger(save_dir=tmp_path, **other)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    logger = MLFlowLogger(save_dir=tmp_path, **other)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    logger.log_metrics({"loss": 1.0}, 0)
    assert MlflowClient(uri).get_run(logger.run_id).data.metrics == {"loss": 1.0}
    assert (own.save_dir, logger.save_dir) == (str(tmp_path), None)
    assert os.listdir(tmp_path) == []


def test_without_a_uri_all_is_below_save_dir(tmp_path, monkeypatch, empty_database):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mlflow.db").write_bytes(empty_database.read_bytes())
    logger = MLFlowLogger("digits", save_dir="$RUNS")
    logger.log_metrics({"loss": 0.5}, 0)
    logger.experiment.log_text(logger.run_id, "hello", "a.txt")
    logger.finalize("success")
    assert logger.save_dir == logger.log_dir == str(tmp_path / "runs")
    assert MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db").get_experiment_by_name("digits").experiment_id == logger.name
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == [
        f"runs/artifacts/{logger.run_id}/artifacts/a.txt",
        "runs/mlflow.db",
    ]


def test_a_database_that_is_not_there_is_made_and_log_messages_go_on(tmp_path, caplog):
    import logging

    logger = MLFlowLogger(save_dir=tmp_path / "new" / "runs")
    logger.log_metrics({"loss": 0.5}, 0)
    assert run(logger).data.metrics == {"loss": 0.5}
    assert not logging.getLogger("lx").disabled


def test_a_run_says_how_it_ended_and_runs_again_when_it_is_written_to(uri):
    logger = MLFlowLogger(tracking_uri=uri)
    seen = []
    for status in ("success", "failed", "finished"):
        logger.log_metrics({"loss": 1.0})
        seen.append(run(logger).info.status)
        logger.finalize(status)
        _ = logger.experiment, logger.run_id
        seen.append(run(logger).info.status)
    assert seen == ["RUNNING", "FINISHED", "RUNNING", "FAILED", "RUNNING", "FINISHED"]
    again = MLFlowLogger(tracking_uri=uri, run_id=logger.run_id)
    assert (again.name, again.version) == (logger.experiment_id, logger.run_id)
    again.finalize("failed")
    assert run(again).info.status == "FINISHED"  # nothing was logged
    again.log_metrics({"loss": 2.0}, 3)
    assert run(again).info.status == "RUNNING"
    assert history(again, "loss") == [(0, 1.0), (1, 1.0), (2, 1.0), (3, 2.0)]


def test_what_a_run_is_called_and_where_it_belongs(uri, tmp_path):
    first = MLFlowLogger("digits", "first", uri, {"who": 1}, artifact_location=str(tmp_path / "store"))
    second = MLFlowLogger("digits", tracking_uri=uri)
    assert first.experiment_id == second.experiment_id
    assert first.run_id != second.run_id
    found = run(first)
    assert found.info.run_name == "first"
    assert found.data.tags["who"] == "1"
    assert "mlflow.user" in found.data.tags
    assert found.info.artifact_uri == f"{tmp_path}/store/{first.run_id}/artifacts"
    assert run(second).info.run_name


def test_a_deleted_experiment_keeps_its_name(uri):
    client = MlflowClient(uri)
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(MisconfigurationException, match=r"experiment_name='gone': that experiment was deleted.*restore --experiment-id 1"):
        MLFlowLogger("gone", tracking_uri=uri).log_metrics({"loss": 1.0})


def test_a_process_that_is_faster_makes_the_experiment(uri, monkeypatch):
    client = MlflowClient(uri)
    made = client.create_experiment("raced")
    before, asked = MlflowClient.get_experiment_by_name, []
    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", lambda self, name: before(self, name) if asked else asked.append(name))
    assert MLFlowLogger("raced", tracking_uri=uri).experiment_id == made


def test_parameters_are_cut_and_sent_a_hundred_at_once(uri, monkeypatch):
    sizes, before = [], MlflowClient.log_batch
    monkeypatch.setattr(
        MlflowClient, "log_batch", lambda self, *args, **kwargs: sizes.append(len(kwargs["params"])) or before(self, *args, **kwargs)
    )
    logger = MLFlowLogger(tracking_uri=uri)
    logger.log_hyperparams({"long": "x" * 251, "net": {"act": len, "width@1": None}, **{f"p{number}": number for number in range(200)}})
    params = run(logger).data.params
    assert sizes == [100, 100, 3]
    assert len(params) == 203
    assert (params["long"], params["net/act"], params["net/width1"], params["p7"]) == ("x" * 250, "builtins.len", "None", "7")


def test_a_parameter_that_changes_is_left_as_it_was_with_a_warning(uri):
    MLFlowLogger(tracking_uri=uri).log_hyperparams({})
    logger = MLFlowLogger(tracking_uri=uri)
    logger.log_hyperparams({"lr": 0.1})
    again = MLFlowLogger(tracking_uri=uri, run_id=logger.run_id)
    with pytest.warns(UserWarning, match=r"lr stays '0\.1', and '0\.2' is not logged"):
        again.log_hyperparams({"lr": 0.2, "new": 1})
    again.log_hyperparams({"lr": 0.1})
    assert run(logger).data.params == {"lr": "0.1", "new": "1"}


def test_metrics_of_one_call_are_one_request_with_the_time_of_the_trainer(uri, monkeypatch):
    calls, before = [], MlflowClient.log_batch
    monkeypatch.setattr(
        MlflowClient, "log_batch", lambda self, *args, **kwargs: calls.append(len(kwargs["metrics"])) or before(self, *args, **kwargs)
    )
    logger = MLFlowLogger(tracking_uri=uri)
    logger.point = Point(step=3, epoch=1, samples=8, seconds=1.0, walltime=1234.5678)
    logger.log_metrics({f"m{number}": float(number) for number in range(1001)}, 3)
    assert calls == [1000, 1]
    assert [(one.step, one.timestamp) for one in logger.experiment.get_metric_history(logger.run_id, "m7")] == [(3, 1234567)]


def test_names_that_mlflow_refuses_lose_what_is_refused_with_one_warning(uri):
    logger = MLFlowLogger(tracking_uri=uri, prefix="p")
    with pytest.warns(UserWarning, match=r"no metric named 'p-acc@1 \(top\)'; it is logged as 'p-acc1 top'") as warned:
        logger.log_metrics({"acc@1 (top)": 1.0, "größe/b_c.d e": 2.0}, 0)
    logger.log_metrics({"acc@1 (top)": 1.0, "größe/b_c.d e": 2.0}, 1)
    assert len(warned) == 1
    assert run(logger).data.metrics == {"p-acc1 top": 1.0, "p-größe/b_c.d e": 2.0}


def test_text_is_no_metric_and_other_values_are_an_error(uri):
    logger = MLFlowLogger(tracking_uri=uri)
    with pytest.warns(UserWarning, match="no text as a metric: note='good' is not logged"):
        logger.log_metrics({"note": "good", "loss": 1.0}, 0)
    assert run(logger).data.metrics == {"loss": 1.0}
    with pytest.raises(TypeError, match=r"the metric 'many' is \[1, 2\], and MLflow takes numbers"):
        logger.log_metrics({"many": [1, 2]}, 0)


def test_a_step_that_is_left_out_follows_the_last(uri):
    logger = MLFlowLogger(tracking_uri=uri)
    for step, metrics in ((None, {}), (7, {}), (None, {}), (None, {"step": 20.0}), (None, {})):
        logger.log_metrics({"a": 1.0, **metrics}, step)
    assert history(logger, "a") == [(0, 1.0), (7, 1.0), (8, 1.0), (20, 1.0), (21, 1.0)]


def test_what_is_written_in_the_background_is_there_when_a_run_ends(uri):
    logger = MLFlowLogger(tracking_uri=uri, synchronous=False)
    for step in range(30):
        logger.log_metrics({"a": float(step)}, step)
    logger.finalize("success")
    assert history(logger, "a") == [(step, float(step)) for step in range(30)]
    assert run(logger).info.status == "FINISHED"


def test_a_folder_is_refused_with_the_cure_and_taken_where_mlflow_takes_it(tmp_path, monkeypatch):
    logger = MLFlowLogger(tracking_uri=(tmp_path / "files").as_uri())
    with pytest.raises(MisconfigurationException, match=r"names a folder.*Leave tracking_uri away.*MLFLOW_ALLOW_FILE_STORE=true"):
        logger.log_metrics({"a": 1.0})
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    logger.log_metrics({"a": 1.0})
    assert logger.save_dir == str(tmp_path / "files")
    assert run(logger).data.metrics == {"a": 1.0}


def test_former_files_in_save_dir_are_not_left_in_silence(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "meta.yaml").touch()
    with pytest.warns(UserWarning, match=r"MLflow's former format.*tracking_uri='file:///.*MLFLOW_ALLOW_FILE_STORE=true"):
        MLFlowLogger(save_dir=tmp_path).log_metrics({"a": 1.0})


def test_what_log_model_takes():
    with pytest.raises(MisconfigurationException, match="log_model='best': it must be True, False or 'all'"):
        MLFlowLogger(log_model="best")


def test_a_copy_in_another_process_writes_to_the_same_run(uri, tmp_path):
    logger = MLFlowLogger(tracking_uri=uri)
    (tmp_path / "logger.pickle").write_bytes(pickle.dumps(logger))
    code = (
        "import pickle, sys; logger = pickle.load(open(sys.argv[1], 'rb')); logger.log_metrics({'a': 1.0}, 0); logger.finalize('failed'); "
        "print(logger.run_id)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "logger.pickle")], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [logger.run_id]
    assert history(logger, "a") == [(0, 1.0)]


def test_other_ranks_have_no_run(uri, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = MLFlowLogger(tracking_uri=uri, log_model="all")
    logger.log_metrics({"a": 1.0})
    logger.log_hyperparams({"a": 1.0})
    logger.after_save_checkpoint(None)
    logger.experiment.log_text(logger.run_id, "x", "y")
    logger.finalize("success")
    pickle.dumps(logger)
    assert (logger.name, logger.version) == (None, None)
    assert [one.name for one in MlflowClient(uri).search_experiments()] == ["Default"]
    assert MlflowClient(uri).search_runs(["0"]) == []


class Logs(TinyModule):
    """Logs a value that rises, and fails at a step."""

    def __init__(self, fail_at=None):
        super().__init__()
        self.save_hyperparameters()

    def training_step(self, batch, batch_idx):
        if self.global_step == self.hparams.fail_at:
            raise ZeroDivisionError
        self.log("rise", float(self.global_step))
        return super().training_step(batch, batch_idx)


def fit(tmp_path, logger, model=None, **checkpoints):
    trainer = Trainer(
        accelerator="cpu", max_epochs=3, limit_train_batches=2, limit_val_batches=0, log_every_n_steps=1, default_root_dir=tmp_path,
        logger=logger, callbacks=[ModelCheckpoint(**checkpoints)] if checkpoints else [], enable_checkpointing=bool(checkpoints),
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model or Logs(), TinyDataModule())
    return trainer


def test_a_training_by_the_name_of_the_logger(tmp_path, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    trainer = fit(tmp_path, "mlflow(experiment_name='digits')")
    logger = trainer.logger
    assert run(logger).info.status == "FINISHED"
    assert run(logger).data.params == {"fail_at": "None"}
    assert [step for step, _ in history(logger, "rise")] == list(range(6))
    assert MlflowClient(uri).get_experiment_by_name("digits").experiment_id == logger.experiment_id


def test_a_training_that_fails(tmp_path, uri):
    logger = MLFlowLogger(tracking_uri=uri)
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, logger, Logs(fail_at=3))
    assert run(logger).info.status == "FAILED"
    assert history(logger, "rise") == [(0, 0.0), (1, 1.0), (2, 2.0)]


@pytest.mark.parametrize(
    ("log_model", "save_top_k", "epochs", "aliases"),
    [(True, 1, [2], "['latest', 'best']"), ("all", 1, [0, 1, 2], "['latest', 'best']"), (True, -1, [0, 1, 2], "['latest', 'best']")],
)
def test_checkpoints_are_artifacts(tmp_path, uri, log_model, save_top_k, epochs, aliases):
    logger = MLFlowLogger(tracking_uri=uri, log_model=log_model, artifact_location=str(tmp_path / "store"))
    trainer = fit(tmp_path, logger, monitor="rise", mode="max", save_top_k=save_top_k)
    names = [f"epoch={epoch}-step={2 * epoch + 2}" for epoch in epochs]
    assert artifacts(logger) == [f"{name}/{file}" for name in names for file in ("aliases.txt", f"{name}.ckpt", "metadata.yaml")]
    assert text(logger, f"{names[-1]}/aliases.txt") == aliases
    described = text(logger, f"{names[-1]}/metadata.yaml")
    assert described.startswith(f'score: 5.0\noriginal_filename: "{names[-1]}.ckpt"\nCheckpoint:\n  monitor: rise\n')
    content = torch.load(Path(tmp_path, "store", logger.run_id, "artifacts", f"{names[-1]}/{names[-1]}.ckpt"), weights_only=False)
    assert content["global_step"] == 6
    assert trainer.checkpoint_callback.dirpath == str(tmp_path / logger.name / logger.version / "checkpoints")


def test_without_log_model_no_checkpoint_is_an_artifact(tmp_path, uri):
    logger = MLFlowLogger(tracking_uri=uri, artifact_location=str(tmp_path / "store"))
    fit(tmp_path, logger, save_top_k=1)
    assert artifacts(logger) == []


def test_a_checkpoint_that_is_a_folder_and_a_link_to_it(tmp_path, uri):
    class Saved:
        best_model_path, last_model_path, best_k_models = str(tmp_path / "a.ckpt"), str(tmp_path / "last.ckpt"), {}
        current_score, save_top_k = None, 1

    (tmp_path / "a.ckpt").mkdir()
    (tmp_path / "a.ckpt" / "part").touch()
    (tmp_path / "last.ckpt").symlink_to("a.ckpt")
    logger = MLFlowLogger(tracking_uri=uri, log_model="all", artifact_location=str(tmp_path / "store"))
    for _ in range(2):
        logger.after_save_checkpoint(Saved())
    assert artifacts(logger) == ["a/a.ckpt/part", "a/aliases.txt", "a/metadata.yaml"]
