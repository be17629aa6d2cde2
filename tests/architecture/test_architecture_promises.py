"""The page of promises: each names the tests that hold it, and those are there."""

import ast
import re
from functools import cache
from pathlib import Path

from checkout import ROOT

PAGE = ROOT / "docs/explain/when-it-breaks.md"
NAMED = re.compile(r"`([\w/.-]+\.py)::(\w+)`")
TO_COME = "*to come*"
"""What stands in the place of a test where the part that is promised is not there yet."""


@cache
def functions(path: Path) -> frozenset[str]:
    """The functions and methods of a file, by name; none if there is no such file."""
    if not path.is_file():
        return frozenset()
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef))


def missing(text, root):
    """The tests that a text names, and that are not there."""
    return [f"{path}::{name}" for path, name in NAMED.findall(text) if name not in functions(root / path)]


def rows(text):
    """The cells of all rows of tables, without their headings."""
    lines = text.splitlines()
    below = [line for line, next_one in zip(lines, [*lines[1:], ""], strict=True) if not next_one.startswith("| ---")]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in below if line.startswith("|") and not line.startswith("| ---")
    ]


def unproven(text):
    """The rows that name neither a test nor say that it is to come."""
    return [row[0] for row in rows(text) if not NAMED.search(row[-1]) and row[-1] != TO_COME]


def test_every_test_that_the_page_names_is_there():
    found = missing(PAGE.read_text("utf-8"), ROOT)
    assert not found, "\n".join(found)


def test_every_promise_names_a_test():
    text = PAGE.read_text("utf-8")
    assert len(rows(text)) > 30
    assert unproven(text) == []


def test_the_check_sees_what_is_missing(tmp_path):
    (tmp_path / "test_it.py").write_text("class TestIt:\n    def test_there(self): ...\n", "utf-8")
    named = ("`test_it.py::test_there`", "`test_it.py::test_gone`", "`no.py::test_x`", "", TO_COME)
    table = "".join(f"| {what} | {cell} |\n" for what, cell in zip("abcde", named, strict=True))
    text = f"| what | test |\n| --- | --- |\n{table}\n| other | test |\n| --- | --- |\n| f | soon |\n"
    assert missing(text, tmp_path) == ["test_it.py::test_gone", "no.py::test_x"]
    assert [row[0] for row in rows(text)] == ["a", "b", "c", "d", "e", "f"]
    assert unproven(text) == ["d", "f"]
