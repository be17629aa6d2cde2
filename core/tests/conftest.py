"""The fixtures that lx ships, for the tests of lx-core itself."""

from lx.testing.fixtures import make_distribution, plugin_manager, tiny_data, tiny_module

__all__ = ["make_distribution", "plugin_manager", "tiny_data", "tiny_module"]
