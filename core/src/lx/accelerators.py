"""The accelerator classes that are installed, by class name: `from lx.accelerators import CPUAccelerator`."""

from lx.kernel.namespace import namespace

__getattr__, __dir__ = namespace(__name__, "accelerator")
