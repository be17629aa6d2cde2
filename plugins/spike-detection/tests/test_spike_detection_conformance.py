"""Spike detection against the suite of callbacks."""

from lx.testing.conformance.callback import CallbackConformance


class TestSpikeDetection(CallbackConformance):
    component = "spike_detection(rtol=1e6)"


class TestAbsolute(CallbackConformance):
    component = "spike_detection(mode='max', window=3, warmup=2, atol=1e6, rtol=None, finite_only=False)"
