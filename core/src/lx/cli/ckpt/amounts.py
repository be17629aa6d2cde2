"""Sizes as people read them."""

UNITS = ("B", "kB", "MB", "GB", "TB")


def human_bytes(number: int) -> str:
    """Bytes in the unit, of 1000 each, that leaves up to three digits before the point.

    >>> human_bytes(132), human_bytes(12_713), human_bytes(7_000_000_000)
    ('132 B', '12.7 kB', '7.0 GB')
    """
    size, unit = float(number), 0
    while size >= 999.95 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {UNITS[unit]}" if unit else f"{number} B"


def counted(number: int, noun: str) -> str:
    """A number and its noun.

    >>> counted(1, "tensor"), counted(2310, "tensor")
    ('1 tensor', '2,310 tensors')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"
