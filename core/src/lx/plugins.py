"""The classes of precisions, checkpoint I/O, environments, layer syncs and launchers that are installed, by class name."""

from lx.kernel.namespace import namespace

__getattr__, __dir__ = namespace(__name__, "precision", "checkpoint_io", "environment", "layer_sync", "launcher")
