"""What a test needs of the machine, and a skip that says so where it is not there."""

import sys
from functools import cache

import pytest

from lx.kernel import PluginManager
from lx.kernel.errors import ComponentError
from lx.kernel.requirements import unmet_requirements


def requires(*modules: str, device: str | None = None, devices: int = 1, processes: int = 1) -> pytest.MarkDecorator:
    """A mark that skips a test, or all tests of a class, with a reason that names what is missing.

    `modules` are distributions with their versions, `"tensorboard>=2"`; `device` is the name of an accelerator, of which
    `devices` must be there; `processes` is the number of processes that the test starts and connects.

    >>> requires("torch>=2.9", processes=2).args
    (False,)
    >>> requires("no-such-package>=2").kwargs["reason"]
    'it requires no-such-package>=2, which is not installed'
    """
    reason = missing(*modules, device=device, devices=devices, processes=processes)
    return pytest.mark.skipif(bool(reason), reason=reason or "everything is there")


def missing(*modules: str, device: str | None = None, devices: int = 1, processes: int = 1) -> str:
    """What `requires` would give as the reason; empty where nothing is missing. For use within a test, with `pytest.skip`."""
    reasons = unmet_requirements(modules)
    if device is not None:
        reasons.append(_device(device, devices))
    if processes > 1:
        reasons.append(_processes(processes))
    return "; ".join(filter(None, reasons))


@cache
def _device(name: str, count: int) -> str:
    """Asks the installed accelerator of that name; the tests of other kinds of devices need no line here."""
    try:
        accelerator = PluginManager().registry.accelerator.get(name)
    except ComponentError as error:
        return f"it requires the accelerator {name!r}: {error}"
    if not accelerator.is_available():
        return f"it requires the accelerator {name!r}, and this machine has no such device that torch can use"
    there = len(accelerator.parse_devices(-1)) if count > 1 else 1
    return "" if there >= count else f"it requires {count} devices of {name!r}, and this machine has {there}"


def _processes(count: int) -> str:
    import torch.distributed  # noqa: PLC0415 -- a test that requires a package only may do without torch

    if not torch.distributed.is_available():
        return f"it requires {count} processes that work as one, and this build of torch has no torch.distributed"
    if sys.platform == "win32" or not torch.distributed.is_gloo_available():
        return f"it requires {count} processes connected by gloo, which is not there"
    return ""
