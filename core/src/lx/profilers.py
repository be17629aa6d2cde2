"""The profiler classes that are installed, by class name: `from lx.profilers import SimpleProfiler`."""

from lx.kernel.namespace import namespace

__getattr__, __dir__ = namespace(__name__, "profiler")
