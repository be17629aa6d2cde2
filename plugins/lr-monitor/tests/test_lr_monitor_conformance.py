"""The learning rate monitor against the suite of callbacks."""

from lx.testing.conformance.callback import CallbackConformance


class TestBoth(CallbackConformance):
    component = "lr_monitor(log_momentum=True, log_weight_decay=True)"


class TestEveryStep(CallbackConformance):
    component = "learning_rate_monitor(logging_interval='step')"


class TestEveryEpoch(CallbackConformance):
    component = "lr_monitor('epoch', log_key_prefix='optim/')"
