from typing import Any

import pytest

from lx.devices import device_indices
from lx.kernel.errors import MisconfigurationException


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (1, [0]), (3, [0, 1, 2]), ("2", [0, 1]), (-1, [0, 1, 2, 3]), ("-1", [0, 1, 2, 3]), ([2], [2]), ((3, 1), [3, 1]), ("0,1", [0, 1]),
        (" 1, 3 ", [1, 3]), ("2,", [2]),
    ],
)  # fmt: skip
def test_forms(devices: Any, expected: list[int]) -> None:
    assert device_indices(devices, 4, "CUDA device") == expected


@pytest.mark.parametrize("devices", [True, False, None, 1.0, [True], [1.0], ["0"], {0}, "auto", "", ",", "0,x", object])
def test_what_is_no_devices_is_a_type_error(devices: Any) -> None:
    with pytest.raises(TypeError, match=r"devices=.*give a number"):
        device_indices(devices, 4, "CUDA device")


@pytest.mark.parametrize(
    ("devices", "available", "message"),
    [
        (0, 4, "at least one"), ("0", 4, "at least one"), (-2, 4, "at least one"), ([], 4, "at least one"),
        ([1, 1], 4, "twice"), ("0,0", 4, "twice"), (5, 4, "asks for the CUDA device 4, and of 4 on this machine 0 to 3 are there"),
        ([0, 7], 4, "asks for the CUDA device 7"), ([-1], 4, "asks for the CUDA device -1"), (2, 1, "of 1 on this machine only 0 is there"),
        (1, 0, "no CUDA device"), (-1, 0, "no CUDA device"), ([0], 0, "no CUDA device"),
    ],
)  # fmt: skip
def test_none_and_absent_devices(devices: Any, available: int, message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        device_indices(devices, available, "CUDA device")
