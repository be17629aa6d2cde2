"""Early stopping against the suite of callbacks."""

from lx.testing.conformance.callback import CallbackConformance


class TestEarlyStopping(CallbackConformance):
    component = "early_stopping(monitor='val_loss')"
    others = ("early_stopping(monitor='val_loss', mode='max')", "early_stopping('train_loss')")


class TestLenient(CallbackConformance):
    component = "early_stopping('lost', strict=False, check_on_train_epoch_end=False)"
