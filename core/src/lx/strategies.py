"""The strategy classes that are installed, by class name: `from lx.strategies import DDPStrategy`."""

from lx.kernel.namespace import namespace

__getattr__, __dir__ = namespace(__name__, "strategy")
