"""The data ledger against the suite of callbacks."""

from lx.testing.conformance.callback import CallbackConformance


class TestDataLedger(CallbackConformance):
    component = "data_ledger"


class TestOneThatWritesEachBatch(CallbackConformance):
    component = "data_ledger(flush_every_n_steps=1)"
