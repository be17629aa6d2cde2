"""What a Fabric is not told it takes from variables; those of Lightning's launcher count, too."""

import pytest

from lx import Fabric
from lx.kernel import PluginManager


def test_a_fabric_takes_what_it_is_not_told_from_variables(plugin_manager: PluginManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LT_DEVICES", "7")
    monkeypatch.setenv("LT_CLI_USED", "1")  # names no argument, and is somebody else's
    with pytest.raises(Exception, match=r"devices.*LT_DEVICES"):
        Fabric(manager=plugin_manager)
    assert Fabric(manager=plugin_manager, devices=1).world_size == 1
    monkeypatch.setenv("LX_FABRIC_DEVICES", "1")
    fabric = Fabric(manager=plugin_manager)
    assert (fabric.world_size, fabric.from_environment) == (1, {"devices": "LX_FABRIC_DEVICES"})
