"""The registry on its own: adding, finding, building, removing, and the messages of what goes wrong."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

from lx.kernel import ComponentSpec, KindRegistry, Registry
from lx.kernel.errors import (
    BrokenPluginError,
    CollisionError,
    ComponentArgumentError,
    ComponentStringError,
    UnknownComponentError,
)
from lx.kernel.registry import PROGRAM, check_arguments, import_target


class Shape:
    """The interface of the kind that these tests use."""


class Circle(Shape):
    """A circle."""

    def __init__(self, radius: float = 1.0, *, colour: str = "red") -> None:
        self.radius, self.colour = radius, colour


class Square(Shape):
    """A square."""

    def __init__(self, edge: float) -> None:
        self.edge = edge


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.add_kind("shape", interface=f"{__name__}:Shape")
    return made


@pytest.fixture
def shapes(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> KindRegistry:
    """The kind `shape`; its interface is importable although this file was imported from its path."""
    import sys
    from types import ModuleType

    module = ModuleType(__name__)
    vars(module).update(Shape=Shape, Circle=Circle, Square=Square)
    monkeypatch.setitem(sys.modules, __name__, module)
    return registry.shape


# -- adding ----------------------------------------------------------------------------------------------------------------


def test_add_a_class(shapes: KindRegistry) -> None:
    assert shapes.add("circle", Circle, summary="round") is Circle
    assert shapes.names() == ["circle"]
    assert shapes.describe("circle") == "round"
    assert shapes.get("circle") is Circle
    assert shapes.find("circle").provider == PROGRAM
    assert "circle" in shapes
    assert "square" not in shapes
    assert (len(shapes), list(shapes)) == (1, ["circle"])


def test_add_as_a_decorator(shapes: KindRegistry) -> None:
    @shapes.add("triangle", summary="three corners", aliases=("delta",), edge=3)
    class Triangle(Shape):
        def __init__(self, edge: int) -> None:
            self.edge = edge

    assert isinstance(shapes.build("delta"), Triangle)
    assert shapes.build("triangle").edge == 3


def test_add_an_import_path_imports_nothing(shapes: KindRegistry) -> None:
    shapes.add("lazy", "no_such_module.anywhere:Lazy", summary="not there")
    assert shapes.describe("lazy") == "not there"
    assert shapes.class_names() == ["Lazy"]
    with pytest.raises(
        BrokenPluginError, match=r"the shape 'lazy' of this-program cannot be imported from 'no_such_module\.anywhere:Lazy'"
    ):
        shapes.get("lazy")


def test_add_a_factory(shapes: KindRegistry) -> None:
    shapes.add("big_circle", functools.partial(Circle, radius=9.0))
    assert shapes.build("big_circle").radius == 9.0
    assert shapes.class_names() == ["partial"]
    with pytest.raises(UnknownComponentError):
        shapes.by_class("Nothing")


def test_defaults_rank_under_extra_and_extra_under_the_user(shapes: KindRegistry) -> None:
    shapes.add("circle", Circle, radius=2.0, colour="blue")
    assert (shapes.build("circle").radius, shapes.build("circle").colour) == (2.0, "blue")
    assert shapes.build("circle", colour="green").colour == "green"
    assert shapes.build("circle(colour='grey')", colour="green").colour == "grey"


@pytest.mark.parametrize("name", ["", "two words", "-x", None, 7, "a(b)", "a@b"])
def test_names_that_no_string_could_select_are_refused(shapes: KindRegistry, name: Any) -> None:
    with pytest.raises(ValueError, match="is registered under a name of letters, digits"):
        shapes.add(name, Circle)
    with pytest.raises(ValueError, match="is registered under a name of letters, digits"):
        shapes.add("circle", Circle, aliases=[name])
    assert shapes.names() == []


@pytest.mark.parametrize("target", [Circle(), "no colon", 5, ""])
def test_targets_that_are_neither_class_nor_path_are_refused(shapes: KindRegistry, target: Any) -> None:
    with pytest.raises(TypeError, match=r"the target must be a class or 'package\.module:Class'"):
        shapes.add("circle", target)


def test_a_name_twice_from_one_provider_is_refused(shapes: KindRegistry) -> None:
    shapes.add("circle", Circle, aliases=("disc",))
    with pytest.raises(
        CollisionError, match=r"this-program registers the shape 'disc' twice, as .*Circle and as .*Square; .*remove\('circle'\)"
    ):
        shapes.add("Disc", Square)
    assert shapes.get("disc") is Circle


def test_a_class_defined_again_replaces_itself(shapes: KindRegistry) -> None:
    """As in a notebook, where a cell is run a second time."""

    def cell(radius: int) -> Callable[..., Any]:
        @shapes.add("mine")
        class Mine(Shape):
            size = radius

        return Mine

    cell(1)
    second = cell(2)
    assert shapes.get("mine") is second
    assert shapes.names() == ["mine"]


def test_remove(shapes: KindRegistry) -> None:
    shapes.add("circle", Circle)
    shapes.remove("Circle")
    assert shapes.names() == []
    with pytest.raises(UnknownComponentError, match="there is no shape 'circle'"):
        shapes.remove("circle")
    shapes.add("circle", Square)
    assert shapes.get("circle") is Square


# -- finding ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["big_circle", "Big-Circle", " BIG_CIRCLE ", "disc", "Big_Circle(3.0)", {"big-circle": {}}])
def test_spellings(shapes: KindRegistry, spelling: Any) -> None:
    shapes.add("big_circle", Circle, aliases=("Disc",))
    assert shapes.get(spelling) is Circle
    assert shapes.names() == ["big_circle"]


def test_an_unknown_name_gets_the_nearest_one(shapes: KindRegistry) -> None:
    shapes.add("early_stopping", Circle, aliases=("halt",))
    shapes.add("checkpoint", Square)
    with pytest.raises(
        UnknownComponentError, match=r"no shape 'early_stoping'\. Did you mean 'early_stopping'\? Installed: checkpoint, early_stopping\.$"
    ):
        shapes.find("early_stoping")
    with pytest.raises(UnknownComponentError, match=r"no shape 'halz'\. Did you mean 'early_stopping'\?"):
        shapes.find("halz")
    with pytest.raises(UnknownComponentError, match=r"no shape 'zzz'\. Installed: checkpoint, early_stopping\.$"):
        shapes.build("zzz")
    with pytest.raises(UnknownComponentError, match=r"no shape 'checkpoint@acme'\. Did you mean 'checkpoint'\?"):
        shapes.find("checkpoint@acme")


def test_an_empty_kind_says_so(shapes: KindRegistry) -> None:
    with pytest.raises(UnknownComponentError, match=r"there is no shape 'circle'\. Installed: none\.$"):
        shapes.find("circle")


def test_error_messages_are_no_reprs(shapes: KindRegistry) -> None:
    with pytest.raises(UnknownComponentError) as caught:
        shapes.find("circle")
    assert str(caught.value).startswith("there is no shape")


def test_two_providers_of_one_name_collide_until_one_is_named(registry: Registry, shapes: KindRegistry) -> None:
    with registry.provided_by("acme-shapes"):
        shapes.add("circle", Circle)
    with registry.provided_by("zen-shapes"):
        shapes.add("Circle", Square)
    message = r"the shape 'circle' is offered by 'acme-shapes' and 'zen-shapes'\. .* 'circle@acme-shapes' or 'circle@zen-shapes'\."
    for lookup in (shapes.find, shapes.get, shapes.build, shapes.describe, shapes.remove):
        with pytest.raises(CollisionError, match=message):
            lookup("circle")
    assert shapes.get("circle@acme-shapes") is Circle
    assert shapes.get("circle@Zen_Shapes") is Square
    assert shapes.get(ComponentSpec("circle", "zen-shapes")) is Square
    assert shapes.names() == ["circle"]
    assert len(shapes.entries()) == 2
    shapes.remove("circle@acme-shapes")
    assert shapes.get("circle") is Square


def test_the_order_of_registration_does_not_decide(registry: Registry, shapes: KindRegistry) -> None:
    messages = []
    for order in (("a-dist", "b-dist"), ("b-dist", "a-dist")):
        other = Registry()
        other.add_kind("shape", interface=f"{__name__}:Shape")
        for provider in order:
            with other.provided_by(provider):
                other.shape.add("circle", Circle)
        with pytest.raises(CollisionError) as caught:
            other.shape.find("circle")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_what_the_program_registers_collides_and_can_be_named(registry: Registry, shapes: KindRegistry) -> None:
    with registry.provided_by("acme-shapes"):
        shapes.add("circle", Circle)
    shapes.add("circle", Square)
    with pytest.raises(CollisionError, match=r"'circle@this-program'"):
        shapes.get("circle")
    assert shapes.get("circle@this-program") is Square


def test_a_malformed_string_is_told_before_anything_is_looked_up(shapes: KindRegistry) -> None:
    with pytest.raises(ComponentStringError):
        shapes.find("circle(")
    with pytest.raises(ComponentStringError):
        shapes.get(5)


def test_roles_rank(registry: Registry, shapes: KindRegistry) -> None:
    shapes.add("one", Circle, roles={"default": 5})
    shapes.add("two", Circle, roles={"default": 10, "round": 1})
    shapes.add("other", Square)
    shapes.add("also_five", Square, roles={"default": 5})
    assert [entry.name for entry in shapes.standing_for("default")] == ["two", "also_five", "one"]
    assert [entry.name for entry in shapes.standing_for("round")] == ["two"]
    assert shapes.standing_for("nobody") == []


# -- classes ---------------------------------------------------------------------------------------------------------------


def test_by_class(shapes: KindRegistry) -> None:
    shapes.add("circle", f"{__name__}:Circle")
    shapes.add("disc", f"{__name__}:Circle", radius=2.0)
    assert shapes.by_class("Circle") is Circle
    assert shapes.by_class("Shape") is Shape
    assert shapes.class_names() == ["Circle"]
    with pytest.raises(UnknownComponentError, match=r"no shape class 'Circl'\. Did you mean 'Circle'\? Installed: Circle\."):
        shapes.by_class("Circl")
    with pytest.raises(UnknownComponentError, match="no shape class 'circle'"):
        shapes.by_class("circle")


def test_two_classes_of_one_name_collide(registry: Registry, shapes: KindRegistry) -> None:
    with registry.provided_by("acme"):
        shapes.add("circle", "acme.shapes:Circle")
    with registry.provided_by("zen"):
        shapes.add("disc", f"{__name__}:Circle")
    with pytest.raises(CollisionError, match=r"'acme' \(acme\.shapes:Circle\) and 'zen' \(.*:Circle\)"):
        shapes.by_class("Circle")


# -- building --------------------------------------------------------------------------------------------------------------


def test_instances_are_handed_through(shapes: KindRegistry) -> None:
    circle = Circle()
    assert shapes.build(circle) is circle
    assert shapes.build(circle, radius=3.0).radius == 1.0


@pytest.mark.parametrize("thing", [3, 3.5, object(), None, ["circle"], True])
def test_what_is_no_component_is_refused(shapes: KindRegistry, thing: Any) -> None:
    with pytest.raises(TypeError, match="is no shape: pass a name, a component string or a Shape"):
        shapes.build(thing)


def test_a_class_instead_of_an_instance_is_hinted_at(shapes: KindRegistry) -> None:
    with pytest.raises(TypeError, match=r"is no shape: .* Did you mean Circle\(\.\.\.\)\?"):
        shapes.build(Circle)


def test_arguments_of_every_form(shapes: KindRegistry) -> None:
    shapes.add("circle", Circle)
    assert shapes.build("circle(2.5)").radius == 2.5
    assert shapes.build("circle(2.5, colour='blue')").colour == "blue"
    assert shapes.build({"circle": {"radius": 4.0}}).radius == 4.0
    assert shapes.build(ComponentSpec("circle", None, (), {"radius": 5.0})).radius == 5.0


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (
            "circle(radios=3.0)",
            r"the shape 'circle': got an unexpected keyword argument 'radios'\. Did you mean 'radius'\? It accepts: radius, colour\.",
        ),
        ("circle(zzz=3.0)", r"got an unexpected keyword argument 'zzz'\. It accepts: radius, colour\."),
        ("circle(1.0, 'red')", r"too many positional arguments\. It accepts: radius, colour\."),
        ("circle(1.0, radius=2.0)", r"multiple values for argument 'radius'"),
        ("square", r"the shape 'square': missing a required argument: 'edge'\. It accepts: edge\."),
        ({"square": {"egde": 1}}, r"the shape 'square': missing a required argument: 'edge'\. Did you mean 'edge'\?"),
        ("point(x=1)", r"the shape 'point': .*'x'\. It accepts: no arguments\."),
    ],
)
def test_arguments_that_do_not_fit(shapes: KindRegistry, spec: Any, says: str) -> None:
    class Point(Shape):
        def __init__(self) -> None: ...

    shapes.add("circle", Circle)
    shapes.add("square", Square)
    shapes.add("point", Point)
    with pytest.raises(ComponentArgumentError, match=says) as caught:
        shapes.build(spec)
    assert isinstance(caught.value, TypeError)


def test_keyword_arguments_of_any_name_where_the_constructor_takes_them(shapes: KindRegistry) -> None:
    class Free(Shape):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.given = (args, kwargs)

    shapes.add("free", Free)
    assert shapes.build("free(1, any_name=2)").given == ((1,), {"any_name": 2})


def test_a_type_error_of_the_constructor_itself_is_left_alone(shapes: KindRegistry) -> None:
    class Faulty(Shape):
        def __init__(self) -> None:
            raise TypeError("the constructor's own")

    shapes.add("faulty", Faulty)
    with pytest.raises(TypeError, match=r"^the constructor's own$") as caught:
        shapes.build("faulty")
    assert not isinstance(caught.value, ComponentArgumentError)


def test_a_factory_that_makes_something_else_is_named(shapes: KindRegistry) -> None:
    shapes.add("wrong", lambda: 3)
    with pytest.raises(BrokenPluginError, match=r"the shape 'wrong' of this-program made an object of int, which is no Shape"):
        shapes.build("wrong")


def test_arguments_of_a_class_without_a_signature_are_left_to_it() -> None:
    check_arguments("a type", type, (1, 2, 3, 4, 5), {})


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("raise ValueError('no good')", "ValueError: no good"),
        ("def broken(:", "SyntaxError"),
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("Other = 1", "AttributeError"),
        ("raise BaseException('odd')", "BaseException: odd"),
    ],
)
def test_a_target_that_cannot_be_imported_is_broken(
    shapes: KindRegistry, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, source: str, says: str
) -> None:
    (tmp_path / "faulty_shape.py").write_text(source, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "faulty_shape", raising=False)
    shapes.add("faulty", "faulty_shape:Faulty")
    shapes.add("circle", Circle)
    with pytest.raises(
        BrokenPluginError, match="the shape 'faulty' of this-program cannot be imported from 'faulty_shape:Faulty'"
    ) as caught:
        shapes.build("faulty")
    assert says in str(caught.value)
    assert caught.value.__cause__ is not None
    assert isinstance(shapes.build("circle"), Circle)


def test_control_c_while_a_target_is_imported_passes_through(shapes: KindRegistry, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "interrupted_shape.py").write_text("raise KeyboardInterrupt", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    shapes.add("interrupted", "interrupted_shape:Shape")
    with pytest.raises(KeyboardInterrupt):
        shapes.get("interrupted")


# -- kinds and providers -----------------------------------------------------------------------------------------------------


def test_kinds(registry: Registry) -> None:
    registry.add_kind("exporter", interface="builtins:object")
    assert registry.kinds() == ["shape", "exporter"]
    assert registry.kind("exporter") is registry.exporter
    registry.add_kind("exporter", interface="builtins:object")
    with pytest.raises(CollisionError, match="the kind 'exporter' exists already, with the interface 'builtins:object'"):
        registry.add_kind("exporter", interface="builtins:int")


def test_an_unknown_kind_names_those_that_there_are(registry: Registry) -> None:
    with pytest.raises(AttributeError, match="there is no kind 'shapes'; the kinds are shape"):
        registry.shapes
    assert not hasattr(registry, "_private")


def test_a_provider_that_fails_leaves_what_was_there_before(registry: Registry, shapes: KindRegistry) -> None:
    with registry.provided_by("acme"):
        shapes.add("circle", Circle)
    shapes.add("mine", Square)

    def half() -> None:
        with registry.provided_by("acme"):
            shapes.add("square", Square)
            registry.add_kind("exporter", interface="builtins:object")
            registry.exporter.add("onnx", object)
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        half()
    assert shapes.names() == ["circle", "mine"]
    assert registry.kinds() == ["shape"]
    assert registry.provider == PROGRAM


def test_providers_nest(registry: Registry, shapes: KindRegistry) -> None:
    with registry.provided_by("outer"):
        with registry.provided_by("inner"):
            shapes.add("circle", Circle)
        shapes.add("square", Square)
    assert [(entry.name, entry.provider) for entry in shapes.entries()] == [("circle", "inner"), ("square", "outer")]


def test_import_target_follows_attributes() -> None:
    assert import_target("os:path.join") is __import__("os").path.join
