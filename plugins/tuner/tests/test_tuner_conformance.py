"""The finders against the suite of callbacks."""

from lx.testing.conformance.callback import CallbackConformance


class TestLearningRateFinder(CallbackConformance):
    component = "learning_rate_finder(num_training_steps=20, early_stop_threshold=None)"


class TestSweepAlone(CallbackConformance):
    component = "lr_finder(num_training_steps=3, mode='linear', update_attr=False)"


class TestBatchSizeFinder(CallbackConformance):
    component = "batch_size_finder(max_trials=2)"  # whose second size is the one that the data have anyway, so that nothing changes


class TestBisection(CallbackConformance):
    component = "batch_size_finder('binsearch', max_val=4, margin=0)"
