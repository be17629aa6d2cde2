"""What a model needs to be served over HTTP: `from lx.serve import ServableModule, ServableModuleValidator`."""

from lx.kernel.namespace import namespace

__getattr__, __dir__ = namespace(__name__, "servable", "callback")
