"""What every callback must do."""

import copy
import functools
import inspect
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from lx.dispatch import PHASES, overrides
from lx.interfaces.callback import EVENTS, Callback
from lx.kernel import Entry
from lx.testing.conformance.component import Conformance
from lx.testing.fakes import FakeLogger, fake_plugin_manager
from lx.testing.models import TinyDataModule, TinyModule
from lx.trainer import Trainer

STATE = ("state_dict", "load_state_dict")


class Boom(Exception):
    """What ends a run in a test."""


class FailingModule(TinyModule):
    """Fails in the third training step."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Fails in the third batch."""
        if batch_idx == 2:
            raise Boom("the third batch")
        return super().training_step(batch, batch_idx)


class CallbackConformance(Conformance):
    """The suite of the callbacks; a subclass sets `component`, a string with such arguments that the callback works.

    The runs are those of a `TinyModule`, which logs `train_loss`, `val_loss` and `test_loss`, by a Trainer that is made of fakes: nothing
    needs to be installed, and checkpoints lie in memory. `others` are component strings with other arguments, of callbacks that must be
    able to stand in one Trainer with this one. A callback whose constructor needs a folder overrides the fixture `make`.

    >>> class TestEarlyStopping(CallbackConformance):
    ...     component = "early_stopping(monitor='val_loss')"
    ...     others = ("early_stopping(monitor='train_loss')",)
    """

    kind = "callback"
    others: ClassVar[tuple[str, ...]] = ()

    @pytest.fixture
    def make(self, tmp_path: Path) -> Callable[[], Any]:
        """Builds one more instance, with the same arguments each time."""
        return self.build

    @pytest.fixture
    def built(self, make: Callable[[], Any]) -> Any:
        """A new instance for each test."""
        return make()

    @pytest.fixture
    def trainer(self, tmp_path: Path) -> Callable[..., Trainer]:
        """Makes a Trainer of fakes for callbacks and further arguments; see `fake_trainer`."""
        return functools.partial(fake_trainer, tmp_path)

    # -- what it declares ------------------------------------------------------------------------------------------------

    def test_its_events_take_what_they_are_passed(self, built: Callback) -> None:
        for name in (*EVENTS, *STATE):
            expected = list(inspect.signature(getattr(Callback, name)).parameters.values())[1:]
            method = getattr(built, name)
            needed = [parameter for parameter in expected if parameter.default is parameter.empty]
            for passed in (expected, needed):  # the index of the loader comes only where there are several
                try:
                    inspect.signature(method).bind(*passed)
                except TypeError as error:
                    names = ", ".join(parameter.name for parameter in passed)
                    pytest.fail(f"{type(built).__name__}.{name}{inspect.signature(method)} is called as {name}({names}): {error}")
            assert not inspect.iscoroutinefunction(method), f"{type(built).__name__}.{name} is a coroutine, which nobody awaits"

    def test_no_method_is_almost_an_event(self, built: Callback) -> None:
        strange = [name for name in dir(built) if name.startswith("on_") and name not in EVENTS and callable(getattr(built, name))]
        assert not strange, f"{', '.join(strange)}: there are no such events, so nobody calls these; the events are {', '.join(EVENTS)}"

    def test_its_place_is_one_that_there_is(self, built: Callback) -> None:
        assert built.phase in PHASES
        for names in (built.before, built.after):
            assert isinstance(names, tuple), f"{names!r}: before and after are tuples of names"
            assert all(isinstance(name, str) for name in names)

    def test_its_roles_are_those_that_it_is_registered_for(self, entry: Entry, component_class: Any) -> None:
        roles = component_class.roles
        assert isinstance(roles, frozenset), f"roles are a frozenset of strings, not {roles!r}"
        assert all(isinstance(role, str) for role in roles)
        missing = set(entry.roles) - roles
        assert not missing, (
            f"it is registered for {', '.join(missing)}; its class must say so too, in `roles`, or a given one would not count"
        )

    # -- what it listens to ----------------------------------------------------------------------------------------------

    def test_it_listens_only_to_what_it_has_code_for(self, built: Callback) -> None:
        for event in EVENTS:
            answer = built.listens_to(event)
            assert isinstance(answer, bool), f"listens_to({event!r}) returned {answer!r}"
            assert answer == built.listens_to(event), f"listens_to({event!r}) changes its mind"
            assert not answer or overrides(built, event, Callback), f"it listens to {event}, and does nothing there"

    def test_it_is_deaf_only_to_what_changes_nothing(self, make: Callable[[], Any], trainer: Callable[..., Trainer]) -> None:
        honest, attentive = make(), make()
        attentive.listens_to = lambda event: overrides(attentive, event, Callback)
        assert trace(honest, trainer) == trace(attentive, trainer), "an event that it does not listen to changes what it does"

    # -- runs ------------------------------------------------------------------------------------------------------------

    def test_it_survives_every_entry_point(self, built: Callback, trainer: Callable[..., Trainer]) -> None:
        one = trainer(built)
        with quiet():
            one.fit(TinyModule(), datamodule=TinyDataModule())
            one.validate(TinyModule(), datamodule=TinyDataModule(), verbose=False)
            one.test(TinyModule(), datamodule=TinyDataModule(), verbose=False)
            one.predict(TinyModule(), datamodule=TinyDataModule())
        assert one.global_step == 8

    def test_it_survives_many_fits(self, built: Callback, trainer: Callable[..., Trainer]) -> None:
        for epochs in (2, 1):
            one = trainer(built, max_epochs=epochs)
            with quiet():
                one.fit(TinyModule(), datamodule=TinyDataModule())
            assert one.global_step == 4 * epochs

    def test_it_survives_a_run_that_fails(self, built: Callback, trainer: Callable[..., Trainer]) -> None:
        with quiet(), pytest.raises(Boom) as caught:
            trainer(built).fit(FailingModule(), datamodule=TinyDataModule())
        assert not getattr(caught.value, "__notes__", []), "it fails while the run is ended by an exception"
        one = trainer(built)
        with quiet():
            one.fit(TinyModule(), datamodule=TinyDataModule())
        assert one.global_step == 8

    def test_it_survives_fast_dev_run(self, built: Callback, trainer: Callable[..., Trainer]) -> None:
        one = trainer(built, fast_dev_run=2)
        with quiet():
            one.fit(TinyModule(), datamodule=TinyDataModule())
        assert one.global_step == 2
        assert not one.strategy.checkpoint_io.stored, "it writes checkpoints in fast_dev_run"

    # -- state -----------------------------------------------------------------------------------------------------------

    def test_its_state_is_handed_out_not_lent(self, built: Callback) -> None:
        state = built.state_dict()
        assert isinstance(state, dict)
        keys = list(state)
        state.clear()
        assert list(built.state_dict()) == keys, "who changes the state that was handed out changes the callback"

    def test_its_state_survives_a_checkpoint(self, make: Callable[[], Any], trainer: Callable[..., Trainer], tmp_path: Path) -> None:
        path = str(tmp_path / "it.ckpt")
        Path(path).touch()  # what is in it lies in memory
        saved, restored, taken_up = make(), make(), []
        first, second = trainer(saved), trainer(restored)
        with quiet():
            first.fit(TinyModule(), datamodule=TinyDataModule())
        first.save_checkpoint(path)
        checkpoint = first.strategy.checkpoint_io.stored[path]
        state = saved.state_dict()
        assert bool(state) == (saved.state_key in checkpoint["callbacks"])
        second.strategy.checkpoint_io.stored[path] = {**checkpoint, "callbacks": through_a_file(checkpoint["callbacks"])}
        load = restored.load_state_dict

        def load_and_look(state_dict: dict[str, Any]) -> None:
            load(state_dict)
            taken_up.append(copy.deepcopy(restored.state_dict()))

        restored.load_state_dict = load_and_look
        with quiet():
            second.fit(TinyModule(), datamodule=TinyDataModule(), ckpt_path=path)
        assert same(taken_up, [state] if state else []), f"saved: {state}\ntaken up: {taken_up}"

    def test_its_state_key_is_a_name_for_its_arguments(self, make: Callable[[], Any], trainer: Callable[..., Trainer]) -> None:
        one, again = make(), make()
        key = one.state_key
        assert isinstance(key, str)
        assert key == again.state_key, "the same arguments give another key, so no checkpoint could be resumed from"
        with quiet():
            trainer(one).fit(TinyModule(), datamodule=TinyDataModule())
        assert one.state_key == key, "the key changes during a run"

    def test_others_of_its_kind_may_stand_beside_it(self, built: Callback, trainer: Callable[..., Trainer]) -> None:
        callbacks = [built, *(self.build_other(component) for component in self.others)]
        keys = [callback.state_key for callback in callbacks if callback.state_dict()]
        assert len(set(keys)) == len(keys), f"two have one key: {', '.join(sorted(keys))}"
        assert len(trainer(*callbacks).callbacks) == len(callbacks)

    def build_other(self, component: str) -> Any:
        """Builds one of `others`."""
        return type("Other", (type(self),), {"component": component})().build()

    def test_it_can_be_sent_to_another_process(self, built: Callback) -> None:
        copied = pickle.loads(pickle.dumps(built))
        assert copied.state_key == built.state_key
        assert [copied.listens_to(event) for event in EVENTS] == [built.listens_to(event) for event in EVENTS]


def fake_trainer(folder: Path, *callbacks: Callback, **settings: Any) -> Trainer:
    """A Trainer of fakes, for two epochs, with a logger and the folder for files, with these callbacks and further arguments."""
    arguments: dict[str, Any] = {
        "max_epochs": 2,
        "logger": FakeLogger(save_dir=str(folder)),
        "default_root_dir": folder,
        "log_every_n_steps": 1,
        "manager": fake_plugin_manager(),
        **settings,
    }
    return Trainer(callbacks=list(callbacks), **arguments)


def trace(callback: Callback, trainer: Callable[..., Trainer]) -> dict[str, Any]:
    """What a callback leaves behind in a run: what is stored, logged and found in its state, without values, which may hold times."""
    one = trainer(callback)
    with quiet():
        one.fit(TinyModule(), datamodule=TinyDataModule())
    (logger,) = one.loggers
    assert isinstance(logger, FakeLogger)
    return {
        "steps": one.global_step,
        "checkpoints": sorted(one.strategy.checkpoint_io.stored),
        "logged": [(step, sorted(metrics)) for step, metrics in logger.metrics],
        "metrics": sorted(one.callback_metrics),
        "state": outline(callback.state_dict()),
    }


def outline(value: Any) -> Any:
    """The keys and types of a nested state."""
    if isinstance(value, dict):
        return {key: outline(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [outline(item) for item in value]
    return type(value).__name__


def same(one: Any, other: Any) -> bool:
    """Whether two states are equal, their tensors element by element, NaN like NaN."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (one == other or one != one)


def through_a_file(state: Any) -> Any:
    """The state as it comes out of a file, which holds tensors and plain values, and nothing that unpickling would run."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Within it warnings are no errors, unless they hide an error: what fails while a run is being ended is only warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message="while the run was ended by")
        yield
