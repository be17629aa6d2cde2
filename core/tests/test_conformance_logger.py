"""The suite of the loggers passes a right logger, and each of its tests fails for a wrong one."""

import functools
import inspect
import json
import os
import pickle
from pathlib import Path

import pytest

from lx.experiment import rank_zero_experiment
from lx.hparams.file import plain
from lx.interfaces.logger import Logger
from lx.kernel import Entry
from lx.rank_zero import rank_zero_only
from lx.run_folder import RunFolder
from lx.testing.conformance.logger import LoggerConformance


class JSONLogger(Logger):
    """Appends a line of JSON for each call."""

    def __init__(self, save_dir=None, version=None, prefix=""):
        self.folder = RunFolder(save_dir, "json", version)
        self.prefix = prefix
        self.lines = []
        self.next_step = 0

    @property
    def name(self):
        return self.folder.name

    @property
    def version(self):
        return self.folder.version

    @property
    def save_dir(self):
        return self.folder.save_dir

    @property
    def root_dir(self):
        return self.folder.root_dir

    @property
    def log_dir(self):
        return self.folder.log_dir

    @property
    @rank_zero_experiment
    def experiment(self):
        return self

    def log_metrics(self, metrics, step=None):
        if rank_zero_only.rank:
            return
        step = self.next_step if step is None else step
        self.next_step = step + 1
        self.add({"step": step, "metrics": {f"{self.prefix}-{name}" if self.prefix else name: float(metrics[name]) for name in metrics}})

    def log_hyperparams(self, params, *args, **kwargs):
        if not rank_zero_only.rank:
            self.add({"hparams": plain(params)})

    def add(self, line):
        self.lines.append(json.dumps(line) + "\n")

    def finalize(self, status):
        if self.lines:
            self.folder.make()
            with open(os.path.join(self.log_dir, "lines.json"), "a", encoding="utf-8") as file:
                file.writelines(self.lines)
            self.lines = []

    def __getstate__(self):
        return {**vars(self), "lines": []}


class JSONSuite(LoggerConformance):
    component = "json"
    fake = JSONLogger
    test_is_found_without_torch = None  # a fake is not installed

    @pytest.fixture
    def component_class(self):
        return self.fake

    @pytest.fixture
    def entry(self):
        return Entry("logger", "json", "this program", self.fake, summary="appends lines of JSON")

    def build(self, **extra):
        return self.fake(**extra)

    def read(self, logger):
        lines = [json.loads(line) for line in Path(logger.log_dir, "lines.json").read_text("utf-8").splitlines()]
        return [(line["step"], name, value) for line in lines if "metrics" in line for name, value in line["metrics"].items()]


class TestJSON(JSONSuite):
    """The right one."""


class MakesItsFolder(JSONLogger):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.folder.make()
        Path(self.log_dir, "lines.json").touch()


class NumberedName(JSONLogger):
    name = 5


class RestlessVersion(JSONLogger):
    @property
    def version(self):
        self.folder = RunFolder(self.folder.save_dir, "json", self.next_step)
        self.next_step += 1
        return self.folder.version


class NeedsSaveDir(JSONLogger):
    def __init__(self, save_dir, version=None, prefix=""):
        super().__init__(save_dir, version, prefix)


class IgnoresSaveDir(JSONLogger):
    def __init__(self, save_dir=None, version=None, prefix=""):
        super().__init__(None, version, prefix)


class ForgetsTheEnd(JSONLogger):
    def finalize(self, status):
        del self.lines[20:]
        super().finalize(status)


class Overwrites(JSONLogger):
    def finalize(self, status):
        if self.lines:
            self.folder.make()
            Path(self.log_dir, "lines.json").write_text("".join(self.lines), "utf-8")
            self.lines = []


class RoundsMuch(JSONLogger):
    def log_metrics(self, metrics, step=None):
        super().log_metrics({name: round(float(value), 3) for name, value in metrics.items()}, step)


class SkipsWhatIsNotFinite(JSONLogger):
    def log_metrics(self, metrics, step=None):
        super().log_metrics({name: value for name, value in metrics.items() if abs(value) < 1e30}, step)


class WantsFloats(JSONLogger):
    def log_metrics(self, metrics, step=None):
        super().log_metrics({name: value for name, value in metrics.items() if isinstance(value, float)}, step)


class WantsAStep(JSONLogger):
    def log_metrics(self, metrics, step=None):
        super().log_metrics(metrics, int(step))


class ChangesTheDict(JSONLogger):
    def log_metrics(self, metrics, step=None):
        metrics["step"] = step
        super().log_metrics({name: metrics[name] for name in metrics if name != "step"}, step)


class KeepsTheDict(JSONLogger):
    def add(self, line):
        self.lines.append(line)

    def log_metrics(self, metrics, step=None):
        if not rank_zero_only.rank:
            self.add({"step": step, "metrics": metrics})

    def finalize(self, status):
        self.lines = [json.dumps(line) + "\n" for line in self.lines]
        super().finalize(status)


class EndsForEver(JSONLogger):
    def finalize(self, status):
        super().finalize(status)
        self.add = None


class WantsPlainHyperparameters(JSONLogger):
    def log_hyperparams(self, params, *args, **kwargs):
        self.add({"hparams": {name: json.dumps(value) for name, value in params.items()}})


class IgnoresHyperparameters(JSONLogger):
    def log_hyperparams(self, params, *args, **kwargs):
        """Does nothing."""

    def finalize(self, status):
        self.lines.append('{"status": "done"}\n')
        super().finalize(status)


class WantsAnInput(JSONLogger):
    def log_graph(self, model, input_array=None):
        return model(model.example_input_array)


class NewExperiments(JSONLogger):
    @property
    @rank_zero_experiment
    def experiment(self):
        return object()


class CopiesChooseAVersion(JSONLogger):
    def __getstate__(self):
        return {**super().__getstate__(), "folder": None}

    def __setstate__(self, state):
        vars(self).update(state)
        self.folder = RunFolder(os.path.join(os.getcwd(), os.pardir, "logs"), "json")


class NotPickled(JSONLogger):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.function = lambda: None


class CopiesHeldBackRows(JSONLogger):
    def __getstate__(self):
        return vars(self)


class OneFolder(JSONLogger):
    def __init__(self, save_dir=None, version=None, prefix=""):
        super().__init__(save_dir, version or 0, prefix)


class IgnoresThePrefix(JSONLogger):
    def __init__(self, save_dir=None, version=None, prefix=""):
        super().__init__(save_dir, version)


class OnAllRanks(JSONLogger):
    def log_metrics(self, metrics, step=None):
        self.add({"step": step, "metrics": metrics})


class ExperimentOnAllRanks(JSONLogger):
    experiment = Path()


WRONG = {
    "test_is_a_class_of_its_kind": [],  # those two are of the base of the suites
    "test_is_registered_with_a_summary": [],
    "test_writes_nothing_before_the_first_log_call": [MakesItsFolder],
    "test_has_a_name_and_a_version": [NumberedName, RestlessVersion],
    "test_is_built_without_arguments": [NeedsSaveDir],
    "test_keeps_its_files_below_save_dir": [IgnoresSaveDir],
    "test_metrics_are_read_back": [RoundsMuch],
    "test_many_steps_are_read_back": [ForgetsTheEnd],
    "test_new_metrics_lose_no_row": [Overwrites],
    "test_values_that_are_not_finite": [SkipsWhatIsNotFinite],
    "test_integers_and_tensors_are_metrics": [WantsFloats],
    "test_a_step_may_be_left_out": [WantsAStep],
    "test_the_metrics_of_the_caller_are_its_own": [ChangesTheDict, KeepsTheDict],
    "test_goes_on_after_finalize": [EndsForEver, Overwrites],
    "test_takes_hyperparameters_of_any_kind": [WantsPlainHyperparameters],
    "test_hyperparameters_are_on_disk": [IgnoresHyperparameters],
    "test_a_graph_never_ends_a_run": [WantsAnInput],
    "test_the_experiment_stays": [NewExperiments],
    "test_a_pickled_copy_is_of_the_same_run": [CopiesChooseAVersion, NotPickled],
    "test_a_pickled_copy_leaves_what_is_held_back": [CopiesHeldBackRows],
    "test_the_next_run_has_a_version_of_its_own": [OneFolder],
    "test_an_existing_version_loses_nothing": [Overwrites],
    "test_a_prefix_precedes_each_name": [IgnoresThePrefix],
    "test_other_ranks_write_nothing": [OnAllRanks, ExperimentOnAllRanks],
}
ARGUMENTS = {"status": "failed"}


def test_every_test_of_the_suite_is_listed():
    assert {name for name in dir(JSONSuite) if name.startswith("test_") and getattr(JSONSuite, name)} == set(WRONG)


@pytest.mark.parametrize(
    ("test", "fake"), [pytest.param(test, fake, id=f"{fake.__name__}-{test}") for test in WRONG for fake in WRONG[test]]
)
def test_the_suite_fails_for_a_wrong_logger(test, fake, tmp_path, monkeypatch):
    suite = JSONSuite()
    monkeypatch.setattr(suite, "fake", fake, raising=False)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    folder = tmp_path / "logs"
    given = {"folder": folder, "make": functools.partial(suite.build, save_dir=folder), "monkeypatch": monkeypatch, **ARGUMENTS}
    given["takes"] = inspect.signature(fake).parameters
    method = getattr(suite, test)
    failures = (AssertionError, AttributeError, TypeError, KeyError, pickle.PicklingError, OSError)
    with pytest.raises(failures):
        method(**{name: given[name] for name in inspect.signature(method).parameters})


def test_a_suite_without_read_says_so(tmp_path):
    class Unfinished(LoggerConformance):
        component = "json"

    with pytest.raises(NotImplementedError, match=r"Unfinished must define read\(logger\)"):
        Unfinished().stored(JSONLogger(tmp_path))
