from lx.testing.conformance.callback import CallbackConformance


class TestPredictionWriter(CallbackConformance):
    component = "prediction_writer(write_interval='batch_and_epoch')"
