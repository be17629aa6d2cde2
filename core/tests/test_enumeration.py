"""Enumerations of strings, whatever their case."""

import pytest

from lx.enumeration import GradClipAlgorithmType, LightningEnum


class Kind(LightningEnum):
    FIRST = "a-b"
    SECOND = "b"


def test_members_equal_their_values():
    assert Kind.FIRST == "A-B" == Kind.FIRST
    assert Kind.FIRST != "first"
    assert Kind.FIRST != Kind.SECOND
    assert Kind.FIRST != 3
    assert {Kind.FIRST: 1}["a-b"] == 1
    assert f"{Kind.FIRST}" == str(Kind.FIRST) == "a-b"


@pytest.mark.parametrize(
    ("text", "source", "member"),
    [("FIRST", "key", Kind.FIRST), ("first", "key", Kind.FIRST), ("A-b", "value", Kind.FIRST), ("b", "any", Kind.SECOND)],
)
def test_members_are_read_from_names_and_values(text, source, member):
    assert Kind.from_str(text, source) is member


def test_what_is_no_member():
    with pytest.raises(ValueError, match=r"'a-b' is no Kind; there are 'FIRST', 'SECOND'"):
        Kind.from_str("a-b")
    with pytest.raises(ValueError, match="source='name': it must be"):
        Kind.from_str("b", "name")
    with pytest.warns(UserWarning, match="'x' is no Kind"):
        assert Kind.try_from_str("x") is None


def test_the_ways_to_clip():
    assert GradClipAlgorithmType.supported_types() == ["value", "norm"]
    assert GradClipAlgorithmType.supported_type("Norm")
    assert not GradClipAlgorithmType.supported_type("both")
