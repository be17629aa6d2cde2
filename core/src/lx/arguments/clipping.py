"""The two arguments that say how gradients are clipped."""

from typing import Any

from lx.arguments.limits import is_number
from lx.kernel.errors import ArgumentTypeError, MisconfigurationException

Clipping = tuple[int | float | None, str | None]
"""A bound, None or 0 for no clipping, and `"norm"` (also None) or `"value"`."""


def read_clipping(value: Any, algorithm: Any) -> Clipping:
    """Both, checked; raises `MisconfigurationException` for a bound below 0 and for another algorithm, and for a bound that is no number
    one that is a `TypeError`, too."""
    if value is not None and not is_number(value):
        raise ArgumentTypeError(f"gradient_clip_val={value!r}: it must be a number, 0 or more, or None (0 and None: no clipping).")
    if value is not None and not value >= 0:  # nor NaN
        raise MisconfigurationException(f"gradient_clip_val={value!r}: it must be 0 or more; a bound below 0 would turn gradients round.")
    if algorithm is not None and str(algorithm).lower() not in ("norm", "value"):
        raise MisconfigurationException(f"gradient_clip_algorithm={algorithm!r}: it must be 'norm' or 'value'.")
    return value, None if algorithm is None else str(algorithm).lower()


def agreed(asked: Clipping, told: Clipping) -> Clipping:
    """What a call asks for, filled in from what the Trainer was told; raises `MisconfigurationException` where the two differ.

    >>> agreed((None, None), (0.5, "norm"))
    (0.5, 'norm')
    """
    for argument, one, other in zip(("gradient_clip_val", "gradient_clip_algorithm"), asked, told, strict=True):
        if one is not None and other is not None and one != other:
            raise MisconfigurationException(
                f"clip_gradients({argument}={one!r}) differs from Trainer({argument}={other!r}); set one of the two."
            )
    value, algorithm = (other if one is None else one for one, other in zip(asked, told, strict=True))
    return read_clipping(value, algorithm)
