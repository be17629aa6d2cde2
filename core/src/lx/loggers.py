"""The logger classes that are installed, by class name: `from lx.loggers import CSVLogger`."""

from lx.kernel.namespace import namespace

__getattr__, __dir__ = namespace(__name__, "logger")
