"""The watchdog against the suite of callbacks."""

from lx.testing.conformance.callback import CallbackConformance


class TestEnds(CallbackConformance):
    component = "watchdog"


class TestReports(CallbackConformance):
    component = "watchdog(bound={'minutes': 5}, on_hang='report', first='1h', grace='1min')"
