"""The callbacks of this plugin against the suite of callbacks."""

import pytest

from lx.testing.conformance.callback import CallbackConformance


class TestModelCheckpoint(CallbackConformance):
    component = "model_checkpoint(monitor='val_loss', save_top_k=2, save_last=True)"
    others = ("checkpoint", "checkpoint(every_n_train_steps=2)", "checkpoint(monitor='val_loss', mode='max')")


class TestEveryStep(CallbackConformance):
    component = "checkpoint(every_n_train_steps=1, save_top_k=-1, save_on_exception=True)"


class TestByTime(CallbackConformance):
    component = "checkpoint(train_time_interval='00:00:00:00')"


class TestOnExceptionCheckpoint(CallbackConformance):
    component = "on_exception_checkpoint"

    @pytest.fixture
    def make(self, tmp_path):
        return lambda: self.build(dirpath=tmp_path)
