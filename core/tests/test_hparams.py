"""What `save_hyperparameters` keeps, in all its forms."""

import copy
import functools
import inspect
import pickle
import threading
from argparse import Namespace
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from typing import Any

import pytest
from torch import nn

from lx import LightningDataModule, LightningModule
from lx.hparams.mixin import AttributeDict, drop_unpicklable


class Saves(LightningModule):
    """Saves as it is told by `how`."""

    how: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    def __init__(self, width: int = 8, rate: float = 0.1, **rest: Any) -> None:
        super().__init__()
        args, kwargs = self.how
        self.save_hyperparameters(*args, **kwargs)


def saving(*args: Any, **kwargs: Any) -> type[Saves]:
    return type("Saving", (Saves,), {"how": (args, kwargs)})


# -- which arguments ---------------------------------------------------------------------------------------------------------


def test_all_arguments_are_kept_with_defaults_and_those_gathered_by_name() -> None:
    assert dict(Saves(4, depth=2).hparams) == {"width": 4, "rate": 0.1, "depth": 2}


@pytest.mark.parametrize("ignore", ["rate", ["rate"], ("rate", "unheard_of"), {"rate"}])
def test_those_to_ignore_are_left_out(ignore: Any) -> None:
    assert dict(saving(ignore=ignore)().hparams) == {"width": 8}


def test_names_select() -> None:
    assert dict(saving("rate", "depth")(depth=3).hparams) == {"rate": 0.1, "depth": 3}
    assert dict(saving("rate", "width", ignore="width")().hparams) == {"rate": 0.1}


def test_a_name_that_is_no_argument_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"save_hyperparameters\('rate', 'depht'\): 'depht' is no argument of __init__; those are width, rate"
    ):
        saving("rate", "depht")()


def test_positional_and_keyword_only_arguments_are_kept_and_gathered_positions_are_not() -> None:
    class Odd(LightningModule):
        def __init__(self, one: int, /, two: int, *more: int, three: int = 3, **rest: int) -> None:
            super().__init__()
            self.save_hyperparameters()

    assert dict(Odd(1, 2, 30, 40, four=4).hparams) == {"one": 1, "two": 2, "three": 3, "four": 4}


def test_a_module_without_arguments_has_none() -> None:
    class Plain(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters()

    assert (dict(Plain().hparams), dict(LightningModule().hparams), LightningModule().hparams_name) == ({}, {}, None)


def test_it_may_come_before_the_base_is_made_and_from_a_method_or_a_function() -> None:
    def remember(owner: LightningModule) -> None:
        owner.save_hyperparameters()

    class Early(LightningModule):
        def __init__(self, width: int) -> None:
            self.save_hyperparameters()
            super().__init__()

    class Method(LightningModule):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.remember()

        def remember(self) -> None:
            self.save_hyperparameters()

    class Function(LightningModule):
        def __init__(self, width: int) -> None:
            super().__init__()
            remember(self)

    assert [dict(cls(5).hparams) for cls in (Early, Method, Function)] == [{"width": 5}] * 3


def test_a_frame_may_be_given_where_the_call_comes_from_elsewhere() -> None:
    class Framed(LightningModule):
        def __init__(self, width: int) -> None:
            super().__init__()
            thread = threading.Thread(target=self.save_hyperparameters, kwargs={"frame": inspect.currentframe()})
            thread.start()
            thread.join()

    assert dict(Framed(5).hparams) == {"width": 5}


def test_an_init_behind_a_decorator_is_found() -> None:
    def decorated(init: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(init)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
            init(self, *args, **kwargs)

        return wrapper

    class Decorated(LightningModule):
        @decorated
        def __init__(self, width: int, rate: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()

    assert dict(Decorated(5).hparams) == {"width": 5, "rate": 0.1}


# -- inheritance -------------------------------------------------------------------------------------------------------------


class Base(LightningModule):
    def __init__(self, rate: float = 0.1, act: str = "relu", **rest: Any) -> None:
        super().__init__()
        self.save_hyperparameters()


def test_the_arguments_of_all_classes_are_kept_and_those_of_the_outermost_rank_first() -> None:
    class Sub(Base):
        def __init__(self, width: int, rate: float = 0.5) -> None:
            super().__init__(rate=rate * 2, depth=3)

    assert dict(Sub(8).hparams) == {"width": 8, "rate": 0.5, "act": "relu", "depth": 3}


def test_a_subclass_may_take_away_what_its_base_kept() -> None:
    class Sub(Base):
        def __init__(self, width: int = 8, **rest: Any) -> None:
            super().__init__(**rest)
            self.save_hyperparameters(ignore="act")

    assert dict(Sub(act="tanh", depth=2).hparams) == {"rate": 0.1, "depth": 2, "width": 8}


def test_another_module_that_is_made_meanwhile_is_not_mixed_in() -> None:
    class Outer(LightningModule):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.inner = Base(rate=9.0)
            self.save_hyperparameters()

    outer = Outer(4)
    assert dict(outer.hparams) == {"width": 4}
    assert outer.inner.hparams.rate == 9.0


def test_calls_add_up() -> None:
    class Twice(LightningModule):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.save_hyperparameters({"extra": 1})

    assert dict(Twice(2).hparams) == dict(Twice(2).hparams_initial) == {"width": 2, "extra": 1}


# -- dataclasses -------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Data(LightningModule):
    width: int
    sizes: list[int] = field(default_factory=lambda: [1, 2])
    made: int = field(default=0, init=False)
    hint: InitVar[int] = 3

    def __post_init__(self, hint: int) -> None:
        super().__init__()
        self.made = hint
        self.save_hyperparameters()


def test_the_fields_of_a_dataclass_are_its_arguments() -> None:
    assert dict(Data(4, hint=5).hparams) == {"width": 4, "sizes": [1, 2], "hint": 5}


def test_so_are_those_of_its_subclasses() -> None:
    @dataclass(eq=False)
    class More(Data):
        depth: int = 2

        def __post_init__(self, hint: int) -> None:
            super().__post_init__(hint)

    assert dict(More(4, depth=7).hparams) == {"width": 4, "sizes": [1, 2], "hint": 3, "depth": 7}


# -- containers --------------------------------------------------------------------------------------------------------------


class Contained(LightningModule):
    def __init__(self, conf: Any, other: int = 5, logger: bool = True) -> None:
        super().__init__()
        self.save_hyperparameters(conf, logger=logger)


@pytest.mark.parametrize("container", [{"lr": 1, "deep": {"a": 2}}, Namespace(lr=1, deep={"a": 2}), AttributeDict(lr=1, deep={"a": 2})])
def test_one_container_is_taken_as_it_is_and_remembered_by_its_argument(container: Any) -> None:
    module = Contained(container)
    assert (dict(module.hparams), module.hparams_name) == ({"lr": 1, "deep": {"a": 2}}, "conf")
    module.hparams.lr = 9
    assert (container["lr"] if isinstance(container, dict) else container.lr) == 1


def test_arguments_that_are_saved_by_themselves_go_by_the_name_kwargs() -> None:
    assert (Saves().hparams_name, saving("rate")().hparams_name) == ("kwargs", "kwargs")


def test_a_container_that_is_no_argument_has_no_name() -> None:
    module = saving({"lr": 1})()
    assert (dict(module.hparams), module.hparams_name) == ({"lr": 1}, None)
    outside = LightningModule()
    outside.save_hyperparameters({"lr": 2})
    assert (dict(outside.hparams), outside.hparams_name) == ({"lr": 2}, None)


@pytest.mark.parametrize("container", [{}, Namespace(), None])
def test_nothing_to_save_changes_nothing(container: Any) -> None:
    assert (dict(Contained(container).hparams), Contained(container).hparams_name) == ({}, None)


@dataclass
class Config:
    lr: float = 0.1


@pytest.mark.parametrize(("value", "named"), [(3, "int"), (True, "bool"), ([1], "list"), (Config(), r"Config; dataclasses.asdict\(...\)")])
def test_what_is_no_container_is_refused(value: Any, named: str) -> None:
    with pytest.raises(ValueError, match=f"pass names of arguments, or one mapping or Namespace, not a {named}"):
        Contained(value)


# -- what is kept ------------------------------------------------------------------------------------------------------------


def test_the_initial_ones_are_a_copy_that_nobody_changes() -> None:
    sizes = [1, 2]
    module = Saves(sizes=sizes)
    module.hparams.rate = 0.9
    module.hparams["sizes"].append(3)
    module.hparams_initial["width"] = 0
    module.hparams_initial.sizes.append(4)
    assert dict(module.hparams) == {"width": 8, "rate": 0.9, "sizes": [1, 2, 3]}
    assert dict(module.hparams_initial) == {"width": 8, "rate": 0.1, "sizes": [1, 2]}


def test_what_cannot_be_copied_is_kept_as_it_is() -> None:
    lock = threading.Lock()
    module = Saves(lock=lock)
    assert module.hparams.lock is module.hparams_initial.lock is lock


def test_a_module_among_them_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"'net' is a module.*save_hyperparameters\(ignore=\['net'\]\)"):
        assert isinstance(Saves(net=nn.Linear(1, 1)).hparams.net, nn.Linear)
    saving(ignore="net")(net=nn.Linear(1, 1))


def test_whether_loggers_get_them_is_said_when_they_are_saved() -> None:
    assert (Saves().logs_hparams, saving(logger=False)().logs_hparams, LightningModule().logs_hparams) == (True, False, False)


def test_what_cannot_be_pickled_is_dropped_with_a_warning_when_a_run_starts() -> None:
    module = Saves(act=lambda value: value, depth=2)
    with pytest.warns(UserWarning, match=r"'act' of Saves cannot be pickled.*ignore=\['act'\]"):
        drop_unpicklable(module)
    assert dict(module.hparams) == {"width": 8, "rate": 0.1, "depth": 2}
    drop_unpicklable(module)  # and nothing more to say
    assert "act" in module.hparams_initial


def test_data_modules_have_them_too() -> None:
    class Data(LightningDataModule):
        def __init__(self, batch_size: int = 4) -> None:
            super().__init__()
            self.save_hyperparameters()

    assert dict(Data(16).hparams) == {"batch_size": 16}


# -- the dictionary ----------------------------------------------------------------------------------------------------------


def test_keys_are_attributes() -> None:
    values = AttributeDict(lr=0.1, width=8)
    values.lr = 0.2
    values.new = 1
    del values.width
    assert values == {"lr": 0.2, "new": 1}
    with pytest.raises(AttributeError, match="no hyperparameter 'depth'; there are lr, new"):
        _ = values.depth
    with pytest.raises(AttributeError, match="no hyperparameter 'depth'"):
        del values.depth
    with pytest.raises(AttributeError, match="there are none"):
        _ = AttributeDict().depth
    assert repr(values) == '"lr":  0.2\n"new": 1'


def test_it_is_copied_and_pickled_as_itself() -> None:
    values = AttributeDict(lr=[1])
    for other in (copy.deepcopy(values), pickle.loads(pickle.dumps(values))):
        assert (type(other), other, other.lr is values.lr) == (AttributeDict, values, False)
