"""Enumerations of strings that are compared and read without regard to case."""

from enum import Enum, StrEnum
from typing import Any, Literal, Self

from lx.rank_zero import rank_zero_warn

Source = Literal["key", "value", "any"]


class LightningEnum(StrEnum):
    """An enumeration of strings whose members equal their values in either case, and can be read from their names or values.

    >>> class Mode(LightningEnum):
    ...     FAST = "fast-mode"
    >>> Mode.FAST == "Fast-Mode", Mode.from_str("fast"), Mode.from_str("fast-mode", source="value")
    (True, <Mode.FAST: 'fast-mode'>, <Mode.FAST: 'fast-mode'>)
    """

    @classmethod
    def from_str(cls, value: str, source: Source = "key") -> Self:
        """The member with a name (`"key"`), a value, or either (`"any"`); raises `ValueError` where there is none, with what there is."""
        spellings = cls._spellings(source)
        for member, known in spellings:
            if known.lower() == str(value).lower():
                return member
        raise ValueError(f"{value!r} is no {cls.__name__}; there are {', '.join(repr(known) for _, known in spellings)}.")

    @classmethod
    def try_from_str(cls, value: str, source: Source = "key") -> Self | None:
        """As `from_str`; warns and returns None where there is none."""
        try:
            return cls.from_str(value, source)
        except ValueError as error:
            rank_zero_warn(str(error))
            return None

    @classmethod
    def _spellings(cls, source: str) -> list[tuple[Self, str]]:
        if source not in ("key", "value", "any"):
            raise ValueError(f"source={source!r}: it must be 'key', 'value' or 'any'.")
        keys = [(member, member.name) for member in cls] if source != "value" else []
        values = [(member, str(member.value)) for member in cls] if source != "key" else []
        return [*keys, *values]

    def __eq__(self, other: object) -> bool:
        other = other.value if isinstance(other, Enum) else other
        return isinstance(other, str) and self.value.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.value.lower())


class GradClipAlgorithmType(LightningEnum):
    """How gradients are clipped: `"value"`, each element for itself, or `"norm"`, all of them together."""

    VALUE = "value"
    NORM = "norm"

    @staticmethod
    def supported_type(val: Any) -> bool:
        """Whether there is such a way."""
        return any(member == val for member in GradClipAlgorithmType)

    @staticmethod
    def supported_types() -> list[str]:
        """The ways there are."""
        return [member.value for member in GradClipAlgorithmType]
