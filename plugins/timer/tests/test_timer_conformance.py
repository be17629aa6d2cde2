"""The timer against the suite of callbacks."""

from lx.testing.conformance.callback import CallbackConformance


class TestMeasuring(CallbackConformance):
    component = "timer"


class TestEverySteps(CallbackConformance):
    component = "timer('01:00:00:00')"


class TestEveryEpoch(CallbackConformance):
    component = "timer(duration={'days': 1}, interval='epoch', verbose=False)"
