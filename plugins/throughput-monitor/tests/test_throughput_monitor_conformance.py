"""The throughput monitor against the suite of callbacks."""

from lx.testing.conformance.callback import CallbackConformance


class TestDefaults(CallbackConformance):
    component = "throughput_monitor"


class TestAWindow(CallbackConformance):
    component = "throughput_monitor(window_size=2, separator='.', available_flops=1e12)"
