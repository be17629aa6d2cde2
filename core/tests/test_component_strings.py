"""What a component string can say, and that nothing in one is ever evaluated."""

import contextlib
import random
import string
from typing import Any

import pytest

from lx.kernel import ComponentSpec, normalise, parse
from lx.kernel.component import is_name
from lx.kernel.errors import ComponentStringError


@pytest.mark.parametrize(
    ("text", "name", "provider", "args", "kwargs"),
    [
        ("csv", "csv", None, (), {}),
        ("  csv  ", "csv", None, (), {}),
        ("16-mixed", "16-mixed", None, (), {}),
        ("32", "32", None, (), {}),
        ("Early_Stopping", "Early_Stopping", None, (), {}),
        ("fsdp@acme-fsdp", "fsdp", "acme-fsdp", (), {}),
        ("fsdp@acme.fsdp(1)", "fsdp", "acme.fsdp", (1,), {}),
        ("csv()", "csv", None, (), {}),
        ("csv ( )", "csv", None, (), {}),
        ("csv('runs')", "csv", None, ("runs",), {}),
        ("csv('runs', version=3)", "csv", None, ("runs",), {"version": 3}),
        (
            "early_stopping(\n    monitor='val_loss',\n    patience=3,\n)",
            "early_stopping",
            None,
            (),
            {"monitor": "val_loss", "patience": 3},
        ),
        ("a(x=-1.5e-3, y=None, z=True)", "a", None, (), {"x": -0.0015, "y": None, "z": True}),
        ("a(x=[1, (2, 'b')], y={'k': [False]}, z={1, 2})", "a", None, (), {"x": [1, (2, "b")], "y": {"k": [False]}, "z": {1, 2}}),
        ("a(b'raw', 1+2j)", "a", None, (b"raw", 1 + 2j), {}),
        ("a(path='C:\\\\runs', text='(not a call)')", "a", None, (), {"path": "C:\\runs", "text": "(not a call)"}),
        ("a('one' 'two')", "a", None, ("onetwo",), {}),
        ("a(x='@home')", "a", None, (), {"x": "@home"}),
    ],
)
def test_forms_of_a_string(text: str, name: str, provider: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    spec = parse(text)
    assert (spec.name, spec.provider, spec.args, dict(spec.kwargs)) == (name, provider, args, kwargs)


def test_a_mapping_holds_any_objects() -> None:
    unparsable = object()
    spec = parse({"csv": {"client": unparsable}})
    assert spec.name == "csv"
    assert spec.kwargs["client"] is unparsable
    assert parse({"csv@acme": None}) == ComponentSpec("csv", "acme")
    assert parse({"csv": {}}) == ComponentSpec("csv")


def test_a_spec_is_handed_through() -> None:
    spec = ComponentSpec("csv", None, (1,), {})
    assert parse(spec) is spec


def test_the_mapping_is_not_kept() -> None:
    arguments = {"patience": 3}
    spec = parse({"early_stopping": arguments})
    arguments["patience"] = 4
    assert spec.kwargs == {"patience": 3}


@pytest.mark.parametrize(
    "text", ["csv", "csv@acme", "csv('runs', version=3)", "csv@acme(name=None)", "a([1, {'b': (2.5,)}], c=-1)", "a('it\\'s \"quoted\"')"]
)
def test_a_spec_prints_as_it_is_written(text: str) -> None:
    assert parse(str(parse(text))) == parse(text)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "is not a component string"),
        ("   ", "is not a component string"),
        ("two words", "is not a component string"),
        ("csv@", "is not a component string"),
        ("@acme", "is not a component string"),
        ("csv@acme@more", "is not a component string"),
        ("_private", "is not a component string"),
        ("pkg.module:Class", "is not a component string"),
        ("csv(", "is not a component string"),
        ("csv)", "is not a component string"),
        ("csv(1) more", "is not a component string"),
        (5, "is not a component string"),
        (None, "is not a component string"),
        (b"csv", "is not a component string"),
        (["csv"], "is not a component string"),
        ("csv(1", "is not a component string"),
        ("csv(1,,2)", "cannot be parsed"),
        ("csv(name=)", "cannot be parsed"),
        ("csv('unclosed)", "cannot be parsed"),
        ("csv(name='a', 3)", "cannot be parsed"),
        ("csv(\0)", "cannot be parsed"),
        pytest.param("csv(" + "9" * 5000 + ")", "cannot be parsed", id="5000 digits"),
        ("csv(1)(2)", "is not one call"),
        ("csv(1) or (2)", "is not one call"),
        ("csv(1).more(2)", "is not one call"),
        ("csv(1), (2)", "is not one call"),
        ("csv(1)\n(2)\nx(3)", "cannot be parsed"),
        ("csv(*[1])", "unpacks arguments"),
        ("csv(**{'a': 1})", "unpacks arguments"),
        ("csv(a=1, a=2)", "gives the argument 'a' twice"),
        pytest.param("csv(" + "-" * 100_000 + "1)", "nested too deeply", id="100000 signs"),
        ({}, "must have one key"),
        ({"a": {}, "b": {}}, "must have one key"),
        ({"csv": 3}, "must be a mapping of names to values, not 3"),
        ({"csv": ["runs"]}, "must be a mapping of names to values"),
        ({"csv": {1: 2}}, "must be a mapping of names to values"),
        ({"csv(1)": {"a": 2}}, "gives arguments twice"),
        ({3: {}}, "is not a component string"),
    ],
)
def test_what_is_no_component_string(spec: Any, says: str) -> None:
    with pytest.raises(ComponentStringError) as caught:
        parse(spec)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "argument",
    [
        "name",
        "os.getcwd()",
        "exec('raise SystemExit')",
        "__import__('os').system('true')",
        "(lambda: 1)()",
        "lambda: 1",
        "f'{1}'",
        "f''",
        "[x for x in (1, 2)]",
        "{x for x in ()}",
        "{x: x for x in ()}",
        "(x for x in ())",
        "(1).real",
        "'a'.upper()",
        "'abc'[0]",
        "[1, 2][0]",
        "1 + 1",
        "2 ** 8",
        "'a' * 3",
        "'a' + 'b'",
        "1 if True else 2",
        "not True",
        "True and False",
        "1 < 2",
        "~1",
        "(x := 1)",
        "[*[1]]",
        "{**{}}",
        "{[]: 1}",
        "{{}}",
        "print",
        "...if 1 else 2",
        "await_",
        pytest.param("1+" * 5000 + "1", id="a long sum"),
        pytest.param("a" + ".b" * 5000, id="a long path"),
    ],
)
@pytest.mark.parametrize("place", ["csv(HERE)", "csv(x=HERE)", "csv([HERE])", "csv(x={'k': HERE})", "csv(1, (HERE,))"])
def test_what_is_no_literal_is_refused(place: str, argument: str) -> None:
    with pytest.raises(ComponentStringError) as caught:
        parse(place.replace("HERE", argument))
    assert any(words in str(caught.value) for words in ("is no literal", "cannot be parsed", "nested too deeply"))


def test_the_message_quotes_what_is_no_literal() -> None:
    with pytest.raises(ComponentStringError, match=r"holds 'torch\.float16', which is no literal"):
        parse("half(dtype=torch.float16)")


def test_nothing_is_evaluated_whatever_the_string() -> None:
    """Random strings of call syntax either parse to literals or are refused; a name that would act if evaluated never acts."""
    acted: list[str] = []
    pieces = [
        *(
            "act()",
            "act",
            "act.x",
            "f'{act()}'",
            "[act() for _ in 'ab']",
            "lambda: act()",
            "(act() or 1)",
            "{act(): 1}",
            "x := act()",
            "*act()",
        ),
        *(
            "**act()",
            "1",
            "'s'",
            "None",
            "-1",
            "[",
            "]",
            "(",
            ")",
            "{",
            "}",
            ",",
            "=",
            "a=",
            ":",
            " ",
            "\n",
            "#",
            "\\",
            "'",
            '"',
            "@",
            "csv(",
            ".",
        ),
    ]
    globals()["act"] = lambda: acted.append("called")
    generator = random.Random(0)
    parsed = 0
    try:
        for _ in range(4000):
            body = "".join(generator.choice(pieces) for _ in range(generator.randint(0, 7)))
            try:
                spec = parse(f"csv({body})")
            except ComponentStringError:
                continue
            parsed += 1
            assert all(is_literal(value) for value in [*spec.args, *spec.kwargs.values()]), body
    finally:
        del globals()["act"]
    assert acted == []
    assert parsed > 50  # else the fuzz has tried nothing


def is_literal(value: Any) -> bool:
    if isinstance(value, dict):
        return all(is_literal(item) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple | set):
        return all(is_literal(item) for item in value)
    return value is None or value is ... or isinstance(value, bool | int | float | complex | str | bytes)


def test_any_text_parses_or_fails_by_name() -> None:
    generator = random.Random(1)
    alphabet = string.printable + "äπ\0\u200b"
    for _ in range(4000):
        text = "".join(generator.choice(alphabet) for _ in range(generator.randint(0, 12)))
        with contextlib.suppress(ComponentStringError):
            assert is_name(parse(text).name)


def test_names_are_compared_without_case_and_dashes() -> None:
    assert normalise(" Single-Device ") == normalise("single_device") == "single_device"


@pytest.mark.parametrize(
    ("name", "valid"), [("csv", True), ("16-mixed", True), ("a.b", True), ("", False), ("a b", False), ("-a", False), (3, False)]
)
def test_names_that_can_be_selected(name: object, valid: bool) -> None:
    assert is_name(name) is valid
