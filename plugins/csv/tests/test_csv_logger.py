import csv
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import rank_zero_only
from lx.testing.conformance.logger import LoggerConformance
from lx_plugin_csv.logger import CSVLogger


def text(logger):
    return Path(logger.log_dir, "metrics.csv").read_text("utf-8")


class TestCSV(LoggerConformance):
    component = "csv"

    def read(self, logger):
        with open(os.path.join(logger.log_dir, "metrics.csv"), newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [(int(row["step"]), name, float(value)) for row in rows for name, value in row.items() if name != "step" and value]


class TestCSVWithoutBuffer(TestCSV):
    component = "csv_logger(flush_logs_every_n_steps=1)"


def test_columns_are_sorted_and_grow(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"b": 1.0, "a": 2.0}, 0)
    logger.flush()
    assert text(logger) == "a,b,step\n2.0,1.0,0\n"
    logger.log_metrics({"a": 3.0}, 1)
    logger.flush()
    assert text(logger) == "a,b,step\n2.0,1.0,0\n3.0,,1\n"
    logger.log_metrics({"z": 0.1, "a,\n": 5}, 2)
    logger.flush()
    assert text(logger) == 'a,"a,\n",b,step,z\n2.0,,1.0,0,\n3.0,,,1,\n,5,,2,0.1\n'


def test_rows_are_held_back_for_n_steps(tmp_path):
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=100)
    written = []
    for step in range(9, 300, 10):
        logger.log_metrics({"loss": 1.0}, step)
        logger.save()
        written.append(os.path.exists(os.path.join(logger.log_dir, "metrics.csv")) and text(logger).count("\n") - 1)
    assert written == [False] * 9 + [10] * 10 + [20] * 10 + [30]


def test_rows_of_one_step_are_not_held_back_for_ever(tmp_path):
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=3)
    for _ in range(3):
        logger.log_metrics({"loss": 1.0}, 0)
    assert text(logger).count("\n") == 4


@pytest.mark.parametrize("steps", [0, -1, 1.5, None])
def test_an_impossible_number_of_steps(steps):
    with pytest.raises(MisconfigurationException, match="flush_logs_every_n_steps"):
        CSVLogger(flush_logs_every_n_steps=steps)


def test_a_row_without_step_follows_the_last(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 1.0})
    logger.log_metrics({"a": 1.0}, 7)
    logger.log_metrics({"a": 1.0})
    logger.log_metrics({"a": 1.0, "step": 20.0})
    logger.log_metrics({"a": 1.0})
    logger.flush()
    assert text(logger) == "a,step\n1.0,0\n1.0,7\n1.0,8\n1.0,20\n1.0,21\n"


def test_values_of_other_kinds(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"flag": True, "text": "a,b", "many": [1, 2], "nested": {"x": 1.0}, "none": None}, 0)
    logger.flush()
    assert text(logger) == 'flag,many,nested/x,none,step,text\nTrue,"[1, 2]",1.0,,0,"a,b"\n'


def test_an_existing_version_is_continued_with_a_warning(tmp_path):
    for number in range(2):
        logger = CSVLogger(tmp_path, version=0)
        if number:
            with pytest.warns(UserWarning, match=r"version_0 exists and is not empty.*added to its metrics\.csv"):
                logger.log_hyperparams({"lr": 0.1 + number})
        else:
            logger.log_hyperparams({"lr": 0.1})
        logger.log_metrics({"loss": float(number)}, number)
        logger.finalize("success")
    assert text(logger) == "loss,step\n0.0,0\n1.0,1\n"
    assert Path(logger.log_dir, "hparams.yaml").read_text("utf-8") == "lr: 1.1\n"
    assert Path(logger.log_dir, "hparams_1.yaml").read_text("utf-8") == "lr: 0.1\n"


def test_a_checkpoint_before_the_first_row_is_no_warning(tmp_path):
    logger = CSVLogger(tmp_path, version="mine")
    checkpoints = Path(logger.log_dir, "checkpoints")
    checkpoints.mkdir(parents=True)
    (checkpoints / "last.ckpt").touch()
    logger.log_metrics({"loss": 1.0}, 0)
    logger.finalize("success")
    assert text(logger) == "loss,step\n1.0,0\n"


def test_two_runs_that_chose_one_version_notice(tmp_path):
    first, second = CSVLogger(tmp_path), CSVLogger(tmp_path)
    assert first.log_dir == second.log_dir
    first.log_metrics({"loss": 1.0}, 0)
    first.flush()
    with pytest.warns(UserWarning, match="exists and is not empty"):
        second.log_metrics({"loss": 2.0}, 1)
    first.log_metrics({"acc": 3.0}, 2)
    first.flush()
    second.flush()
    first.log_metrics({"loss": 4.0}, 3)
    first.flush()
    assert text(first) == "acc,loss,step\n,1.0,0\n3.0,,2\n,2.0,1\n,4.0,3\n"


def test_a_folder_that_goes_away_comes_back(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"loss": 1.0}, 0)
    logger.flush()
    shutil.rmtree(tmp_path / "lightning_logs")
    logger.log_metrics({"loss": 2.0}, 1)
    logger.flush()
    assert text(logger) == "loss,step\n2.0,1\n"


def test_an_unfinished_row_is_dropped_with_a_warning(tmp_path):
    logger = CSVLogger(tmp_path, version=0)
    logger.log_metrics({"loss": 1.0}, 0)
    logger.finalize("success")
    with open(os.path.join(logger.log_dir, "metrics.csv"), "a", encoding="utf-8") as file:
        file.write("0.12")
    logger.log_metrics({"loss": 2.0}, 1)
    with pytest.warns(UserWarning, match=r"last row of .*metrics\.csv was unfinished, and is dropped: b'0\.12'"):
        logger.flush()
    assert text(logger) == "loss,step\n1.0,0\n2.0,1\n"


KILLED = """
import csv, os, sys
from lx_plugin_csv.metrics_file import MetricsFile

file = MetricsFile(os.path.join(sys.argv[1], "version_0", "metrics.csv"))
file.rows.append({"loss": 1.0, "step": 0})
file.flush()

def die(*args, **kwargs):
    os.kill(os.getpid(), 9)

class Header:
    def __init__(self, file, **options):
        self.writer, self.rows = before(file, **options), 0
    def writerow(self, row):
        self.rows += 1
        die() if self.rows == 2 else self.writer.writerow(row)

before = csv.writer
if sys.argv[2] == "rows":
    csv.writer = Header
else:
    setattr(os, sys.argv[2], die)
file.rows.append({"acc": 2.0, "step": 1})
file.flush()
"""


@pytest.mark.parametrize("moment", ["rows", "fsync", "replace"])
def test_a_process_killed_while_a_column_is_added(tmp_path, moment):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), moment], check=False)
    assert done.returncode == -signal.SIGKILL
    logger = CSVLogger(tmp_path, name=None, version=0)
    assert text(logger) == "loss,step\n1.0,0\n"
    with pytest.warns(UserWarning, match="exists and is not empty"):
        logger.log_metrics({"acc": 3.0}, 1)
    logger.finalize("success")
    assert text(logger) == "acc,loss,step\n,1.0,0\n3.0,,1\n"
    assert os.listdir(logger.log_dir) == ["metrics.csv"]


NO_FINALIZE = """
import sys
from lx_plugin_csv.logger import CSVLogger

logger = CSVLogger(sys.argv[1])
logger.log_metrics({"loss": 1.0}, 0)
"""


def test_what_is_held_back_is_written_when_the_program_ends(tmp_path):
    subprocess.run([sys.executable, "-c", NO_FINALIZE, str(tmp_path)], check=True)
    assert (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text("utf-8") == "loss,step\n1.0,0\n"


def test_nothing_is_written_late_into_a_folder_that_is_gone(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"loss": 1.0}, 0)
    shutil.rmtree(tmp_path / "lightning_logs")
    del logger
    assert os.listdir(tmp_path) == []


def test_a_disk_that_is_full_loses_no_row(tmp_path, monkeypatch):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"loss": 1.0}, 0)
    logger.flush()
    logger.log_metrics({"loss": 2.0}, 1)
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(text(logger)) + 2, before[1]))
    try:
        with pytest.raises(OSError, match=r"bytes could be written|File too large"):
            logger.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert text(logger) == "loss,step\n1.0,0\n"
    logger.flush()
    assert text(logger) == "loss,step\n1.0,0\n2.0,1\n"


def test_a_file_of_another_writer_is_continued(tmp_path):
    path = tmp_path / "old" / "metrics.csv"
    path.parent.mkdir()
    path.write_bytes(b"loss,epoch,step\r\n1.0,0,0\r\n2.0,\xff,1\r\n")
    logger = CSVLogger(tmp_path, name=None, version="old")
    with pytest.warns(UserWarning, match="exists and is not empty"):
        logger.log_metrics({"loss": 3.0, "epoch": 1}, 2)
    logger.flush()
    assert path.read_bytes() == b"loss,epoch,step\r\n1.0,0,0\r\n2.0,\xff,1\r\n3.0,1,2\n"
    logger.log_metrics({"acc": 4.0}, 3)
    logger.flush()
    assert path.read_bytes() == b"acc,epoch,loss,step\n,0,1.0,0\n,\xff,2.0,1\n,1,3.0,2\n4.0,,,3\n"


def test_a_copy_of_a_running_logger_does_not_warn(tmp_path):
    logger = CSVLogger(tmp_path)
    for step in range(2):  # two runs of one Trainer, each in processes of its own
        copy = pickle.loads(pickle.dumps(logger))
        copy.log_metrics({"loss": 1.0}, step)
        copy.finalize("success")
    assert text(logger) == "loss,step\n1.0,0\n1.0,1\n"


def test_hyperparameters_are_read_by_a_yaml_parser(tmp_path):
    yaml = pytest.importorskip("yaml")
    params = {"lr": 1e-5, "sizes": [1, 2], "model": {"name": "yes", "act": len}, "path": Path("a b")}
    logger = CSVLogger(tmp_path)
    logger.log_hyperparams(params)
    logger.log_hyperparams({"late": None})
    with open(os.path.join(logger.log_dir, "hparams.yaml"), encoding="utf-8") as file:
        assert yaml.safe_load(file) == {**params, "model": {"name": "yes", "act": "builtins.len"}, "path": "a b", "late": None}


def test_other_ranks_get_an_experiment_that_does_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    CSVLogger(tmp_path).experiment.flush()
    assert os.listdir(tmp_path) == []
