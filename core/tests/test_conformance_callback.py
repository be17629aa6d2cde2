"""The suite of the callbacks passes right ones, and each of its tests fails for a wrong one."""

import functools
import inspect
import pickle

import pytest
import torch

from lx.interfaces.callback import Callback, Checkpoint
from lx.kernel import Entry
from lx.testing.conformance.callback import CallbackConformance, fake_trainer, outline, same


class Counter(Callback):
    """Counts batches, and remembers the best loss."""

    roles = frozenset({"counter"})

    def __init__(self, name="batches"):
        self.name = name
        self.state = {"count": 0, "best": torch.tensor(float("inf")), "seen": [1, (2.0, None)]}

    @property
    def state_key(self):
        return f"Counter{{{self.name!r}}}"

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.state["count"] += 1
        self.state["best"] = torch.minimum(self.state["best"], outputs["loss"])

    def state_dict(self):
        return dict(self.state)

    def load_state_dict(self, state_dict):
        self.state = dict(state_dict)


class CounterSuite(CallbackConformance):
    component = "counter"
    others = ("counter('epochs')",)
    fake = Counter
    test_is_found_without_torch = None  # a fake is not installed

    @pytest.fixture
    def component_class(self):
        return self.fake

    @pytest.fixture
    def entry(self):
        return Entry("callback", "counter", "this program", self.fake, summary="counts", roles={"counter": 1})

    def build(self, **extra):
        return self.fake()

    def build_other(self, component):
        return self.fake("epochs")


class TestCounter(CounterSuite):
    """A right one."""


class Stateless(Checkpoint):
    """Writes a checkpoint, and has no state and no arguments."""

    def on_train_end(self, trainer, pl_module):
        if not trainer.fast_dev_run:
            trainer.save_checkpoint("the end.ckpt")


class TestStateless(CounterSuite):
    fake = Stateless
    others = ()

    @pytest.fixture
    def entry(self):
        return Entry("callback", "stateless", "this program", Stateless, summary="saves", roles={"checkpoint": 1})


class ShortHanded(Counter):
    def on_train_batch_end(self, trainer, pl_module):
        """Lacks what it is passed."""


class OneLoader(Counter):
    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        """Lacks the index of the loader."""


class ManyLoaders(Counter):
    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx):
        """Requires the index of the loader."""


class Asynchronous(Counter):
    async def on_fit_end(self, trainer, pl_module):
        """Is never awaited."""


class Misspelt(Counter):
    def on_train_batch_ends(self, trainer, pl_module, outputs, batch, batch_idx):
        """Is never called."""


class Sometime(Counter):
    phase = "sometime"


class BeforeAString(Counter):
    before = "progress"


class ListOfRoles(Counter):
    roles = ["counter"]  # noqa: RUF012


class WithoutItsRole(Counter):
    roles = frozenset()


class ListensToAll(Counter):
    def listens_to(self, event):
        return True


class Evasive(Counter):
    def listens_to(self, event):
        return None


class Moody(Counter):
    def listens_to(self, event):
        self.asked = not getattr(self, "asked", False)
        return self.asked and super().listens_to(event)


class Deaf(Counter):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.log_metrics({"count": 1.0})

    def listens_to(self, event):
        return False


class ForgetsItsState(Counter):
    def on_train_start(self, trainer, pl_module):
        self.state["started"] = True

    def listens_to(self, event):
        return event != "on_train_start" and super().listens_to(event)


class FailsToPredict(Counter):
    def on_predict_start(self, trainer, pl_module):
        raise ValueError("not here")


class StopsAtOnce(Counter):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = True


class ServesOnce(Counter):
    def teardown(self, trainer, pl_module, stage):
        self.state = None


class FailsToFail(Counter):
    def on_exception(self, trainer, pl_module, exception):
        raise ValueError("while it fails")


class NeverRecovers(Counter):
    def on_exception(self, trainer, pl_module, exception):
        self.on_train_start = lambda trainer, pl_module: setattr(trainer, "should_stop", True)

    def listens_to(self, event):
        return event in vars(self) or super().listens_to(event)


class SavesInADevelopmentRun(Counter):
    def on_train_end(self, trainer, pl_module):
        trainer.save_checkpoint("the end.ckpt")


class Lends(Counter):
    def state_dict(self):
        return self.state


class NoState(Counter):
    def state_dict(self):
        return None


class Unsafe(Counter):
    def state_dict(self):
        return {"exception": ValueError("only a pickle can hold this")}


class TakesNothingUp(Counter):
    def load_state_dict(self, state_dict):
        """Loses everything."""


class TakesHalfUp(Counter):
    def load_state_dict(self, state_dict):
        self.state["count"] = state_dict["count"]


class FailsToLoad(Counter):
    def load_state_dict(self, state_dict):
        self.state = state_dict["another name"]


class Anonymous(Counter):
    @property
    def state_key(self):
        return f"Counter {id(self)}"


class Renamed(Counter):
    @property
    def state_key(self):
        return f"Counter {self.state['count']}"


class Nameless(Counter):
    state_key = None


class OneName(Counter):
    state_key = "Counter"


class NotToBeSent(Counter):
    def __init__(self, name="batches"):
        super().__init__(name)
        self.clock = lambda: 0


class LosesItsName(Counter):
    def __getstate__(self):
        return {**vars(self), "name": "lost"}


class DeafAfterwards(Counter):
    def listens_to(self, event):
        return not hasattr(self, "sent") and super().listens_to(event)

    def __getstate__(self):
        return {**vars(self), "sent": True}


WRONG = {
    "test_is_a_class_of_its_kind": [],  # those two are of the base of the suites
    "test_is_registered_with_a_summary": [],
    "test_its_events_take_what_they_are_passed": [ShortHanded, OneLoader, ManyLoaders, Asynchronous],
    "test_no_method_is_almost_an_event": [Misspelt],
    "test_its_place_is_one_that_there_is": [Sometime, BeforeAString],
    "test_its_roles_are_those_that_it_is_registered_for": [ListOfRoles, WithoutItsRole],
    "test_it_listens_only_to_what_it_has_code_for": [ListensToAll, Evasive, Moody],
    "test_it_is_deaf_only_to_what_changes_nothing": [Deaf, ForgetsItsState],
    "test_it_survives_every_entry_point": [FailsToPredict, StopsAtOnce],
    "test_it_survives_many_fits": [ServesOnce, StopsAtOnce],
    "test_it_survives_a_run_that_fails": [FailsToFail, NeverRecovers],
    "test_it_survives_fast_dev_run": [SavesInADevelopmentRun, StopsAtOnce],
    "test_its_state_is_handed_out_not_lent": [Lends, NoState],
    "test_its_state_survives_a_checkpoint": [Unsafe, TakesNothingUp, TakesHalfUp, FailsToLoad, Anonymous],
    "test_its_state_key_is_a_name_for_its_arguments": [Anonymous, Renamed, Nameless],
    "test_others_of_its_kind_may_stand_beside_it": [OneName],
    "test_it_can_be_sent_to_another_process": [NotToBeSent, LosesItsName, DeafAfterwards],
}


def test_every_test_of_the_suite_is_listed():
    assert {name for name in dir(CounterSuite) if name.startswith("test_") and getattr(CounterSuite, name)} == set(WRONG)


@pytest.mark.parametrize(
    ("test", "fake"), [pytest.param(test, fake, id=f"{fake.__name__}-{test}") for test in WRONG for fake in WRONG[test]]
)
def test_the_suite_fails_for_a_wrong_callback(test, fake, tmp_path, monkeypatch):
    suite = CounterSuite()
    monkeypatch.setattr(suite, "fake", fake, raising=False)
    given = {
        "built": fake(),
        "make": fake,
        "component_class": fake,
        "entry": Entry("callback", "counter", "this program", fake, summary="counts", roles={"counter": 1}),
        "trainer": functools.partial(fake_trainer, tmp_path),
        "tmp_path": tmp_path,
    }
    method = getattr(suite, test)
    failures = (AssertionError, AttributeError, TypeError, ValueError, KeyError, RuntimeError, UserWarning, pickle.PicklingError)
    with pytest.raises((*failures, pickle.UnpicklingError, pytest.fail.Exception)):
        method(**{name: given[name] for name in inspect.signature(method).parameters})


def test_states_are_compared_to_the_last_tensor():
    state = {"a": [torch.tensor([1.0, float("nan")]), (1, None)], "b": float("nan")}
    assert same(state, {"a": [torch.tensor([1.0, float("nan")]), (1, None)], "b": float("nan")})
    assert not same(state, {**state, "a": [torch.tensor([1.0, 2.0]), (1, None)]})
    assert not same(state, {**state, "a": [torch.tensor([1.0, float("nan")]), (1, 0)]})
    assert not same(state, {"a": state["a"]})
    assert not same(1, 1.0)
    assert outline(state) == {"a": ["Tensor", ["int", "NoneType"]], "b": "float"}
