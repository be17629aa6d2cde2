import enum
import math
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lx.hparams.file import dump_yaml, flatten, plain


class Colour(enum.Enum):
    RED = "red"
    ODD = object()


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Config:
    lr: float
    inner: object = None


class Text(str):
    def __str__(self):
        return "something else"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (Level.HIGH, 3),
        (Colour.RED, "red"),
        (Colour.ODD, "ODD"),
        (Text("text"), "text"),
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (torch.tensor(2.5), 2.5),
        (torch.arange(3), [0, 1, 2]),
        (np.zeros((2, 1)), [[0.0], [0.0]]),
        (Path("a") / "b", str(Path("a") / "b")),
        ((1, [2, {3, 1}]), [1, [2, [1, 3]]]),
        (Config(0.1, Config(0.2)), {"lr": 0.1, "inner": {"lr": 0.2, "inner": None}}),
        (Namespace(a=1), {"a": 1}),
        (SimpleNamespace(a=SimpleNamespace(b=2)), {"a": {"b": 2}}),
        ({1: "a", None: "b", (1, 2): "c"}, {1: "a", None: "b", "(1, 2)": "c"}),
        (Config, f"{__name__}.Config"),
        (len, "builtins.len"),
        (torch.float32, "torch.float32"),
        (range(3), "range(0, 3)"),
    ],
)
def test_plain_values(value, expected):
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


def test_a_large_array_is_not_written_out():
    assert plain(np.zeros(101)) == str(np.zeros(101))
    assert "meta" in plain(torch.empty(200, device="meta"))


def test_what_holds_itself_ends():
    endless = {}
    endless["self"] = endless
    text = dump_yaml(endless)
    assert text.endswith('{...}}"\n')


def test_flatten():
    params = {"a": {"b": {"c": 1}, "d": [1, {"e": 2}]}, "f": {}, 3: Namespace(g=None)}
    assert flatten(params) == {"a/b/c": 1, "a/d": [1, {"e": 2}], "f": {}, "3/g": None}
    assert flatten(params, ".")["a.b.c"] == 1


def test_yaml_text():
    params = {
        "lr": 1e-05, "big": 1e22, "half": 0.5, "whole": 3.0, "minus": -1e-7, "inf": math.inf, "-inf": -math.inf, "nan": math.nan,
        "int": 10**20, "flag": True, "none": None, "word": "adam", "taken": "No", "number": "12", "text": 'a: "b"\n# c\t',
        "list": [1, "x y", [True, {}], {"k": 1e-3}], "dict": {"a b": {"c": "é"}, "empty": {}}, 7: [], True: 1, None: 2, 1.5: 3,
    }  # fmt: skip
    assert dump_yaml(params) == (
        "lr: 1.0e-05\nbig: 1.0e+22\nhalf: 0.5\nwhole: 3.0\nminus: -1.0e-07\ninf: .inf\n\"-inf\": -.inf\nnan: .nan\n"
        "int: 100000000000000000000\nflag: true\nnone: null\nword: adam\ntaken: \"No\"\nnumber: \"12\"\ntext: \"a: \\\"b\\\"\\n# c\\t\"\n"
        'list: [1, "x y", [true, {}], {k: 0.001}]\ndict:\n  "a b":\n    c: "é"\n  empty: {}\n'
        "7: []\ntrue: 1\nnull: 2\n1.5: 3\n"
    )  # fmt: skip
    assert dump_yaml({}) == "{}\n"


STRINGS = [
    *("", " ", "a", "null", "Null", "yes", "OFF", "y", "~", "1", "1e5", "0x1", "1:30", "2020-01-01", "=", "<<", "-", "- a", "a:", "a: b"),
    *("#", "a #", "'", '"', "\\", "\n", "\r\n", "\t", "\0", "\x1b", "\x7f", "\x85", "\u2028", "\ufeff", "\ufffe", "\ud800", "😀", "é"),
    *("[1]", "{a}", "*a", "&a", "!a", "%a", "@a", "`a`", "a" * 2000, "a b" * 700, ".inf", ".5", "+1", "1_000", "0o7", "a/b.c-d_e", "_"),
    *("-1", "?", "? a", "|", ">", "---", "..."),
]
NUMBERS = [0, -1, 10**30, 0.0, -0.0, 0.1, 1e-5, -1e-300, 1e16, 1.5e300, math.inf, -math.inf, True, False, None]


def test_a_yaml_parser_reads_what_was_written():
    yaml = pytest.importorskip("yaml")
    values = [*STRINGS, *NUMBERS]
    params = {
        "values": values,
        "keys": {text: text for text in STRINGS},
        "flow": [{text: text} for text in STRINGS],
        "deep": {"a": {"b": {"c": [[], {}, [[1]]]}}, "numbers": dict(enumerate(values)), 1.5: 1, None: 2, True: 3},
    }
    assert yaml.safe_load(dump_yaml(params)) == params
    assert math.isnan(yaml.safe_load(dump_yaml({"a": math.nan}))["a"])


def test_every_character_is_read_back():
    yaml = pytest.importorskip("yaml")
    text = "".join(map(chr, [*range(0x300), *range(0x2000, 0x2100), *range(0xFE00, 0x10000), 0xD7FF, 0xE000, 0x10000, 0x10FFFF]))
    assert yaml.safe_load(dump_yaml({"text": text})) == {"text": text}
