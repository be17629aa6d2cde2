"""What every profiler must do."""

import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lx.interfaces.profiler import Profiler
from lx.testing.conformance.component import Conformance


class ProfilerConformance(Conformance):
    """The suite of the profilers; a subclass sets `component`.

    A profiler that is not `active` must take every call and report nothing. An active one is tested for its errors and its report, and,
    if its constructor takes `dirpath` and `filename`, for the files.

    >>> class TestSimple(ProfilerConformance):
    ...     component = "simple"
    """

    kind = "profiler"
    ACTION = "[Callback]Bar{'a/b': 1}.on_train_batch_end"

    @pytest.fixture
    def files(self, component_class: Any, tmp_path: Path) -> Callable[..., Any]:
        """Builds the profiler with a `filename`, and the folders that are given."""
        if not {"dirpath", "filename"} <= set(inspect.signature(component_class).parameters):
            pytest.skip("its constructor takes no dirpath and filename")
        return lambda **folders: self.build(filename="times", **folders)

    def test_reports_what_it_measured(self, built: Profiler) -> None:
        run(built, self.ACTION)
        report = built.summary()
        assert isinstance(report, str)
        assert (self.ACTION in report) == built.active, report

    def test_a_report_of_nothing_is_no_error(self, built: Profiler) -> None:
        built.setup("fit", 0, None)
        assert isinstance(built.summary(), str)
        built.describe()
        built.teardown("fit")

    def test_actions_may_repeat_nest_and_overlap(self, built: Profiler) -> None:
        built.setup("fit", 0, None)
        for _ in range(3):
            with built.profile("epoch"), built.profile("batch"):
                built.start("overlapping")
            built.stop("overlapping")
        report = built.summary()
        assert all((name in report) == built.active for name in ("epoch", "batch", "overlapping")), report
        built.teardown("fit")

    def test_a_report_while_an_action_runs(self, built: Profiler) -> None:
        run(built, "done")
        built.start("running")
        assert isinstance(built.summary(), str)
        built.stop("running")

    def test_starting_twice_is_an_error(self, built: Profiler) -> None:
        if not built.active:
            built.start("again")
            built.start("again")
            return
        built.start("again")
        with pytest.raises(ValueError, match="again"):
            built.start("again")
        built.stop("again")

    def test_stopping_what_does_not_run_is_an_error(self, built: Profiler) -> None:
        if not built.active:
            built.stop("never")
            return
        with pytest.raises(ValueError, match="never"):
            built.stop("never")
        built.start("once")
        built.stop("once")
        with pytest.raises(ValueError, match="once"):
            built.stop("once")

    def test_profile_ends_its_action_by_an_exception_too(self, built: Profiler) -> None:
        with pytest.raises(ZeroDivisionError), built.profile("failing"):
            raise ZeroDivisionError
        with built.profile("failing"):  # it can begin again
            pass

    def test_writes_a_file_for_each_rank(self, files: Callable[..., Any], tmp_path: Path) -> None:
        for rank in (0, 1):
            profiler = files(dirpath=tmp_path / "profiles")
            run(profiler, self.ACTION, rank=rank, log_dir=tmp_path / "logs")
            profiler.describe()
            profiler.teardown("fit")
            report = tmp_path / "profiles" / f"fit-times-{rank}.txt"
            assert report.exists() == profiler.active
            assert not profiler.active or self.ACTION in report.read_text("utf-8")
        assert not (tmp_path / "logs").exists()

    def test_writes_to_the_log_folder_without_dirpath(self, files: Callable[..., Any], tmp_path: Path) -> None:
        profiler = files()
        run(profiler, "load", rank=0, log_dir=tmp_path / "logs", stage="validate")
        profiler.describe()
        assert (tmp_path / "logs" / "validate-times-0.txt").exists() == profiler.active

    def test_prints_on_rank_0_alone_without_filename(self, built: Profiler, capsys: pytest.CaptureFixture[str]) -> None:
        for rank in (1, 0):
            run(built, self.ACTION, rank=rank)
            built.describe()
            assert (self.ACTION in capsys.readouterr().out) == (built.active and rank == 0)
            built.teardown("fit")

    def test_serves_one_run_after_another(self, built: Profiler) -> None:
        for stage in ("fit", "test"):
            run(built, f"in {stage}", stage=stage)
            assert (f"in {stage}" in built.summary()) == built.active
            built.teardown(stage)
            built.teardown(stage)

    def test_reaches_the_processes_of_a_launcher(self, built: Profiler) -> None:
        copy = pickle.loads(pickle.dumps(built))
        run(copy, "load")
        assert ("load" in copy.summary()) == built.active


def run(profiler: Profiler, action: str, rank: int = 0, log_dir: Path | None = None, stage: str = "fit") -> None:
    """What a run does with a profiler: sets it up, and starts and stops an action."""
    profiler.setup(stage, rank, log_dir)
    profiler.start(action)
    profiler.stop(action)
