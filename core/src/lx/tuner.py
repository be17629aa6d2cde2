"""What finds settings for a run by trying them out: `from lx.tuner import Tuner`."""

from lx.kernel.namespace import namespace

__getattr__, __dir__ = namespace(__name__, "tuner")
