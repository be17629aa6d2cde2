import copy

import pytest

from lx.experiment import DummyExperiment, rank_zero_experiment
from lx.rank_zero import rank_zero_only


class Writer:
    @property
    @rank_zero_experiment
    def experiment(self):
        """The library's writer."""
        return "writer"


def test_the_experiment_is_made_on_rank_0_alone(monkeypatch):
    assert Writer().experiment == "writer"
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert isinstance(Writer().experiment, DummyExperiment)
    assert Writer.experiment.__doc__ == "The library's writer."


def test_a_dummy_takes_whatever_users_write():
    dummy = DummyExperiment()
    dummy.config["lr"] = 0.1
    dummy.config.update({"a": 1})
    with dummy.run(name="x") as run:
        run.log_artifact("file").wait()
    assert [*dummy.history()] == []
    assert isinstance(dummy[0]["a"].b, DummyExperiment)


def test_a_dummy_does_not_pretend_to_be_everything():
    assert isinstance(copy.deepcopy(DummyExperiment()), DummyExperiment)
    with pytest.raises(AttributeError):
        DummyExperiment().__array__
