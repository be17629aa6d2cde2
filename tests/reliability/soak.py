"""How much of a test with many drawn cases this run does, and from which seed they are drawn."""

import os

SOAKING = os.environ.get("LX_SOAK") == "1"
"""Whether this is `tox -e soak`, which does all; any other run does a sample."""


def sample(whole: int, default: int) -> int:
    """How many cases to draw: `whole` in `tox -e soak`, `default` in any other run.

    >>> sample(1000, 10) in (1000, 10)
    True
    """
    return whole if SOAKING else default


def drawn_from(default: int = 0) -> int:
    """The seed of what is drawn: the variable LX_SOAK_SEED, which the message of a failing test names, else `default`."""
    return int(os.environ.get("LX_SOAK_SEED", default))
