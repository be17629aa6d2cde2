"""The guard against the suite of callbacks."""

from lx.testing.conformance.callback import CallbackConformance


class TestGuard(CallbackConformance):
    component = "guard"


class TestSkip(CallbackConformance):
    component = "guard(nonfinite='skip', spikes='skip', gradients=True)"


class TestRewind(CallbackConformance):
    component = "guard(nonfinite='rewind', spikes='rewind', margin=None)"
