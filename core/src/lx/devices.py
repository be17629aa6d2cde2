"""Reads the argument `devices` for accelerators whose devices are numbered."""

from lx.kernel.errors import MisconfigurationException

FORMS = "give a number of devices, -1 for all, a list of indices such as [0, 1], or a string of either ('2', '0,1', '0,')"


def device_indices(devices: int | str | list[int] | tuple[int, ...], available: int, what: str) -> list[int]:
    """The indices that `devices` means on a machine with `available` devices, which messages call `what`.

    An integer is a count, a list (or a string with a comma) holds indices, and -1 means all. Raises `TypeError` for what
    is none of these, and `MisconfigurationException` for no device, for one twice, and for one that is not there.

    >>> device_indices(2, 4, "CUDA device"), device_indices("1,3", 4, "CUDA device"), device_indices(-1, 2, "CUDA device")
    ([0, 1], [1, 3], [0, 1])
    """
    wanted = _from_string(devices) if isinstance(devices, str) else devices
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        if wanted < -1 or wanted == 0:
            raise MisconfigurationException(f"devices={devices!r}: a run needs at least one device; {FORMS}.")
        indices = list(range(available if wanted == -1 else wanted))
    elif isinstance(wanted, list | tuple) and all(type(index) is int for index in wanted):
        indices = list(wanted)
    else:
        raise TypeError(f"devices={devices!r} does not say which {what}s to use: {FORMS}.")
    return _checked(indices, devices, available, what)


def _from_string(devices: str) -> int | list[int]:
    try:
        if "," in devices:
            return [int(part) for part in devices.removesuffix(",").split(",")]
        return int(devices)
    except ValueError:
        raise TypeError(f"devices={devices!r} is not a number or a list of numbers: {FORMS}.") from None


def _checked(indices: list[int], devices: object, available: int, what: str) -> list[int]:
    if available == 0:
        raise MisconfigurationException(f"devices={devices!r}: this machine has no {what} that torch can use; choose another accelerator.")
    if not indices:
        raise MisconfigurationException(f"devices={devices!r}: a run needs at least one device; {FORMS}.")
    if len(set(indices)) < len(indices):
        raise MisconfigurationException(f"devices={devices!r} names a {what} twice; name each one once.")
    absent = [index for index in indices if not 0 <= index < available]
    if absent:
        there = "only 0 is" if available == 1 else f"0 to {available - 1} are"
        raise MisconfigurationException(
            f"devices={devices!r} asks for the {what} {', '.join(map(str, absent))}, and of {available} on this machine {there} there."
        )
    return indices
