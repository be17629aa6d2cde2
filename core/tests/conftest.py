"""The fixtures that lx ships, for the tests of lx-core itself, and a Fabric or two."""

from typing import TYPE_CHECKING

import pytest

from lx.kernel import PluginManager
from lx.testing.fixtures import make_distribution, plugin_manager, tiny_data, tiny_module

if TYPE_CHECKING:
    from lx import Fabric

__all__ = ["make_distribution", "plugin_manager", "tiny_data", "tiny_module"]


@pytest.fixture
def fabric(plugin_manager: PluginManager) -> "Fabric":
    """The only process."""
    from lx import Fabric

    return Fabric(manager=plugin_manager)


@pytest.fixture
def second(plugin_manager: PluginManager, monkeypatch: pytest.MonkeyPatch) -> "Fabric":
    """The second of two processes, launched."""
    from lx import Fabric
    from lx.rank_zero import rank_zero_only
    from lx.testing.fakes import FakeDistributedStrategy

    monkeypatch.setattr(rank_zero_only, "rank", rank_zero_only.rank)  # which the launch changes, and the next test must not see
    launched = Fabric(manager=plugin_manager, strategy=FakeDistributedStrategy(2, 1), devices=2)
    launched.launch()
    return launched
