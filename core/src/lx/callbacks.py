"""The callback classes that are installed, by class name: `from lx.callbacks import EarlyStopping`."""

from lx.kernel.namespace import namespace

_BASES = {"Checkpoint": "lx.interfaces.callback:Checkpoint", "ProgressBar": "lx.interfaces.progress_bar:ProgressBar"}

__getattr__, __dir__ = namespace(__name__, "callback", bases=_BASES)
