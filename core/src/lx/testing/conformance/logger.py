"""What every logger must do."""

import functools
import inspect
import math
import os
import pickle
import struct
import warnings
from argparse import Namespace
from collections.abc import Callable, Collection
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch

from lx.interfaces.logger import Logger
from lx.rank_zero import rank_zero_only
from lx.testing.conformance.component import Conformance

Point = tuple[int, str, float]
"""One value of one metric: step, name, value."""


class _Colour(Enum):
    RED = "red"


class LoggerConformance(Conformance):
    """The suite of the loggers; a subclass sets `component`, and says in `read` how what was logged is read back.

    Loggers whose constructor takes `save_dir`, `version` or `prefix` are tested for those too, and what follows from files on disk where
    `log_dir` is not None.

    >>> class TestCSV(LoggerConformance):
    ...     component = "csv"
    ...
    ...     def read(self, logger):
    ...         return [(0, "loss", 0.5)]  # from the files below logger.log_dir
    """

    kind = "logger"

    def read(self, logger: Logger) -> list[Point]:
        """All metrics that are stored for the run of `logger`, by whichever instance, read with the wrapped library's own means."""
        raise NotImplementedError(
            f"{type(self).__name__} must define read(logger), which returns (step, name, value) for all that is stored."
        )

    @pytest.fixture
    def takes(self, component_class: Any) -> Collection[str]:
        """The names of the constructor's arguments."""
        return inspect.signature(component_class).parameters

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """What is passed as `save_dir`; the working directory is another folder, which must stay empty."""
        (tmp_path / "cwd").mkdir()
        monkeypatch.chdir(tmp_path / "cwd")
        return tmp_path / "logs"

    @pytest.fixture
    def make(self, folder: Path, takes: Collection[str]) -> Callable[..., Any]:
        """Builds the logger, with `save_dir` if it takes that."""
        return functools.partial(self.build, **({"save_dir": folder} if "save_dir" in takes else {}))

    def stored(self, logger: Logger) -> list[tuple[int, str, str]]:
        """What `read` returns, sorted, in a form in which NaN equals NaN and rounding to single precision does not show."""
        return _comparable(self.read(logger))

    def test_writes_nothing_before_the_first_log_call(self, make: Callable[..., Any], folder: Path) -> None:
        logger = make()
        asked = (logger.name, logger.version, logger.save_dir, logger.root_dir, logger.log_dir, logger.group_separator)
        logger.save()
        logger.finalize("success")
        assert not _files(folder.parent), f"{_files(folder.parent)} were written by building the logger and asking for {asked}"

    def test_has_a_name_and_a_version(self, make: Callable[..., Any]) -> None:
        logger = make()
        assert isinstance(logger, Logger)
        assert logger.name is None or isinstance(logger.name, str)
        assert logger.version is None or isinstance(logger.version, int | str)
        assert logger.version == logger.version, "the version changes each time it is asked for"

    def test_is_built_without_arguments(self, folder: Path, takes: Collection[str]) -> None:
        logger = self.build()
        if "save_dir" in takes:
            assert Path(logger.log_dir).resolve().is_relative_to(Path.cwd()), (
                "without save_dir the files belong below the working directory"
            )

    def test_keeps_its_files_below_save_dir(self, make: Callable[..., Any], folder: Path, takes: Collection[str]) -> None:
        logger = make()
        _log(logger, [(0, {"loss": 1.0})])
        if "save_dir" in takes:
            assert Path(logger.log_dir).is_relative_to(folder)
            assert Path(logger.root_dir).is_relative_to(folder)
            assert _files(Path(logger.log_dir)), f"nothing was written to log_dir, {logger.log_dir}"
            assert _files(folder.parent) == _files(Path(logger.log_dir)), "files were written outside of log_dir"

    def test_metrics_are_read_back(self, make: Callable[..., Any]) -> None:
        logger = make()
        rows = [(0, {"loss": 1.5, "val/acc": 0.25}), (1, {"loss": 1.25, "val/acc": 0.5}), (50, {"loss": -0.0, "val/acc": 1e-12})]
        _log(logger, rows)
        assert self.stored(logger) == _expected(rows)

    def test_many_steps_are_read_back(self, make: Callable[..., Any]) -> None:
        logger = make()
        rows = [(step, {"loss": 1 / (step + 1)}) for step in range(9, 2500, 10)]
        _log(logger, rows)
        assert self.stored(logger) == _expected(rows)

    def test_new_metrics_lose_no_row(self, make: Callable[..., Any]) -> None:
        logger = make()
        rows = [(0, {"b": 1.0}), (1, {"b": 2.0}), (1, {"a": 3.0}), (2, {"b": 4.0, "c": 5.0}), (3, {"a": 6.0})]
        for row in rows:
            _log(logger, [row])  # each one is on disk before the next brings its metrics
        assert self.stored(logger) == _expected(rows)

    def test_values_that_are_not_finite(self, make: Callable[..., Any]) -> None:
        logger = make()
        rows = [(0, {"a": math.nan, "b": math.inf, "c": -math.inf})]
        _log(logger, rows)
        assert self.stored(logger) == _expected(rows)

    def test_integers_and_tensors_are_metrics(self, make: Callable[..., Any]) -> None:
        logger = make()
        _log(logger, [(0, {"epoch": 3, "loss": torch.tensor(0.5), "acc": torch.tensor([0.25])})])
        assert self.stored(logger) == _expected([(0, {"epoch": 3.0, "loss": 0.5, "acc": 0.25})])

    def test_a_step_may_be_left_out(self, make: Callable[..., Any]) -> None:
        logger = make()
        logger.log_metrics({"loss": 1.0})
        logger.log_metrics(metrics={"loss": 2.0}, step=None)
        logger.finalize("success")
        assert sorted(value for _, name, value in self.read(logger) if name == "loss") == [1.0, 2.0]

    def test_the_metrics_of_the_caller_are_its_own(self, make: Callable[..., Any]) -> None:
        logger, metrics = make(), {"loss": 1.0}
        logger.log_metrics(metrics=metrics, step=0)
        assert metrics == {"loss": 1.0}, "log_metrics changed the dict that it was given"
        metrics["loss"] = 2.0
        logger.finalize("success")
        assert self.stored(logger) == _expected([(0, {"loss": 1.0})])

    @pytest.mark.parametrize("status", ["success", "failed", "finished"])
    def test_goes_on_after_finalize(self, make: Callable[..., Any], status: str) -> None:
        logger = make()
        _log(logger, [(0, {"loss": 1.0})], status)
        logger.finalize(status)
        _log(logger, [(1, {"test_loss": 2.0})])
        assert self.stored(logger) == _expected([(0, {"loss": 1.0}), (1, {"test_loss": 2.0})])

    def test_takes_hyperparameters_of_any_kind(self, make: Callable[..., Any]) -> None:
        endless: list[Any] = []
        endless.append(endless)
        params = {
            "lr": 1e-5, "layers": [64, 32], "shape": (1, 28, 28), "none": None, "flag": True, "text": "a: b\n# c", "nan": math.nan,
            "nested": {"optimizer": {"name": "sgd", 3: "three"}}, "function": len, "class": Path, "path": Path("a"), "enum": _Colour.RED,
            "tensor": torch.zeros(2), "namespace": Namespace(a=1), "set": {1, 2}, "endless": endless, "": "empty",
        }  # fmt: skip
        logger = make()
        logger.log_hyperparams(params)
        logger.log_hyperparams(params={"later": 1})
        logger.log_hyperparams({})
        _log(logger, [(0, {"loss": 1.0})])
        assert (0, "loss", 1.0) in self.read(logger)

    def test_hyperparameters_are_on_disk(self, make: Callable[..., Any]) -> None:
        logger = make()
        logger.log_hyperparams({"batch_size": 12345})
        logger.finalize("success")
        if logger.log_dir is not None:
            assert any(b"12345" in path.read_bytes() for path in _files(Path(logger.log_dir))), (
                "no file of the run holds the hyperparameter"
            )

    def test_a_graph_never_ends_a_run(self, make: Callable[..., Any]) -> None:
        make().log_graph(torch.nn.Linear(2, 1))

    def test_the_experiment_stays(self, make: Callable[..., Any]) -> None:
        logger = make()
        assert logger.experiment is logger.experiment
        _log(logger, [(0, {"loss": 1.0})])
        assert self.stored(logger) == _expected([(0, {"loss": 1.0})])

    def test_a_pickled_copy_is_of_the_same_run(self, make: Callable[..., Any]) -> None:
        logger = make()
        early = pickle.loads(pickle.dumps(logger))
        assert (early.name, early.version, early.log_dir) == (logger.name, logger.version, logger.log_dir)
        _log(early, [(0, {"loss": 1.0})])
        _log(logger, [(1, {"loss": 2.0})])
        late = pickle.loads(pickle.dumps(logger))
        _log(late, [(2, {"loss": 3.0})])
        assert (late.version, late.log_dir) == (logger.version, logger.log_dir)
        assert self.stored(logger) == _expected([(step, {"loss": step + 1.0}) for step in range(3)])

    def test_a_pickled_copy_leaves_what_is_held_back(self, make: Callable[..., Any]) -> None:
        logger = make()
        logger.log_metrics(metrics={"loss": 1.0}, step=0)
        copy = pickle.loads(pickle.dumps(logger))
        for each in (copy, logger):
            each.finalize("success")
        assert self.stored(logger) == _expected([(0, {"loss": 1.0})])

    def test_the_next_run_has_a_version_of_its_own(self, make: Callable[..., Any]) -> None:
        first = make()
        _log(first, [(0, {"loss": 1.0})])
        second = make()
        _log(second, [(0, {"loss": 2.0})])
        if first.log_dir is not None:
            assert first.version != second.version
            assert first.log_dir != second.log_dir
        assert self.stored(first) == _expected([(0, {"loss": 1.0})])

    def test_an_existing_version_loses_nothing(self, make: Callable[..., Any], takes: Collection[str]) -> None:
        if "version" not in takes:
            pytest.skip("its constructor takes no version")
        first = make(version="mine")
        _log(first, [(0, {"loss": 1.0}), (1, {"loss": 2.0})])
        second = make(version="mine")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it may say so
            _log(second, [(2, {"acc": 3.0})])
        assert self.stored(second) == _expected([(0, {"loss": 1.0}), (1, {"loss": 2.0}), (2, {"acc": 3.0})])

    def test_a_prefix_precedes_each_name(self, make: Callable[..., Any], takes: Collection[str]) -> None:
        if "prefix" not in takes:
            pytest.skip("its constructor takes no prefix")
        logger = make(prefix="run")
        _log(logger, [(0, {"loss": 1.0})])
        assert self.stored(logger) == _expected([(0, {"run-loss": 1.0})])

    def test_other_ranks_write_nothing(self, make: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rank_zero_only, "rank", 1)
        logger = make()
        logger.log_hyperparams({"lr": 0.1})
        logger.log_graph(torch.nn.Linear(2, 1))
        if logger.experiment is not None:
            logger.experiment.add_anything("tag", [1])[0].more()
        _log(logger, [(0, {"loss": 1.0})])
        assert not _files(folder.parent)


def _log(logger: Logger, rows: list[tuple[int, dict[str, Any]]], status: str = "success") -> None:
    """Logs and ends, as the engine does."""
    for step, metrics in rows:
        logger.log_metrics(metrics=metrics, step=step)
        logger.save()
    logger.finalize(status)


def _expected(rows: list[tuple[int, dict[str, float]]]) -> list[tuple[int, str, str]]:
    return _comparable([(step, name, value) for step, metrics in rows for name, value in metrics.items()])


def _comparable(points: list[Point]) -> list[tuple[int, str, str]]:
    return sorted((step, name, repr(struct.unpack("f", struct.pack("f", value + 0.0))[0])) for step, name, value in points)


def _files(folder: Path) -> list[Path]:
    return sorted(Path(root, name) for root, _, names in os.walk(folder) for name in names)
