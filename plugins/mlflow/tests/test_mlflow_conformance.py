import functools

import pytest

from lx.testing.conformance.logger import LoggerConformance

LARGEST = 1.7976931348623157e308  # as which MLflow's database keeps what is infinite


def stored(logger):
    """All values of the metrics of a run, asked of MLflow."""
    client, run = logger.experiment, logger.run_id
    return [one for name in client.get_run(run).data.metrics for one in client.get_metric_history(run, name)]


class TestMLflow(LoggerConformance):
    component = "mlflow"

    @pytest.fixture
    def takes(self, component_class, uri):
        return {"prefix"}  # `save_dir` is of no account where there is a tracking URI

    @pytest.fixture
    def make(self, folder, uri):
        return functools.partial(self.build, tracking_uri=uri)

    def read(self, logger):
        return [(one.step, one.key, one.value * (float("inf") if abs(one.value) == LARGEST else 1)) for one in stored(logger)]
