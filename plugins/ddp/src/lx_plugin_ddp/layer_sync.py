"""Batch norm with the statistics of all processes."""

from torch import nn

from lx.interfaces import LayerSync


class TorchSyncBatchNorm(LayerSync):
    """Replaces batch norm layers by `torch.nn.SyncBatchNorm`, and puts the very layers back that it has replaced.

    Parameters are shared between the two, so an optimizer may be made before or after. Layers that are a `SyncBatchNorm` already
    are left alone. torch has no synchronised batch norm on the CPU.

    >>> sync = TorchSyncBatchNorm()
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    >>> type(sync.apply(model)[1]).__name__, type(sync.revert(model)[1]).__name__
    ('SyncBatchNorm', 'BatchNorm1d')
    """

    def __init__(self) -> None:
        self._replaced: dict[nn.Module, nn.Module] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """The model with synchronised layers; called on every rank before the strategy wraps it."""
        made: dict[nn.Module, nn.Module] = {}
        for module in model.modules():
            if isinstance(module, nn.SyncBatchNorm) or next(module.children(), None) is not None:
                continue
            new = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # the module itself if it is no batch norm
            if new is not module:
                made[module] = new
        self._replaced.update((new, old) for old, new in made.items())
        return _exchange(model, made)

    def revert(self, model: nn.Module) -> nn.Module:
        """The model with the plain layers again, which carry on the statistics."""
        present = {module: self._replaced.pop(module) for module in list(model.modules()) if module in self._replaced}
        for new, old in present.items():
            _take_over(old, new)
        return _exchange(model, present)


def _exchange(model: nn.Module, substitutes: dict[nn.Module, nn.Module]) -> nn.Module:
    """The model with modules exchanged wherever they stand, also where one stands in two places."""
    places = [(path, module) for path, module in model.named_modules(remove_duplicate=False) if path and module in substitutes]
    for path, module in places:
        parent, _, name = path.rpartition(".")
        model.get_submodule(parent).register_module(name, substitutes[module])
    return substitutes.get(model, model)


def _take_over(old: nn.Module, new: nn.Module) -> None:
    """Gives a layer the tensors and the mode of the layer that stood in for it, since moving a model makes new buffers."""
    for name, parameter in new.named_parameters(recurse=False):
        old.register_parameter(name, parameter)
    for name, buffer in new.named_buffers(recurse=False):
        old.register_buffer(name, buffer)
    old.train(new.training)
