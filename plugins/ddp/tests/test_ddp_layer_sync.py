"""Synchronised batch norm: put in, and taken out without a trace."""

import copy

import torch
from torch import nn

from lx.kernel import PluginManager
from lx_plugin_ddp.layer_sync import TorchSyncBatchNorm


class Own(nn.BatchNorm2d):
    """A batch norm of the user's."""


def a_model() -> nn.Module:
    shared = nn.BatchNorm1d(4, affine=False)
    return nn.ModuleDict(
        {
            "rows": nn.Sequential(nn.Linear(4, 4), shared, nn.ReLU(), shared),
            "images": nn.Sequential(nn.Conv2d(1, 2, 3), Own(2, momentum=0.3, eps=1e-3), nn.Dropout()),
            "volumes": nn.BatchNorm3d(2, track_running_stats=False),
            "already": nn.SyncBatchNorm(2),
        }
    )


def test_it_stands_for_sync_batchnorm() -> None:
    entry = PluginManager().registry.layer_sync.standing_for("sync-batchnorm")[0]
    assert entry.name == "torch_sync_batchnorm"
    assert type(PluginManager().registry.layer_sync.build(entry.name)) is TorchSyncBatchNorm


def test_layers_are_replaced_and_put_back() -> None:
    model = a_model()
    before = dict(model.named_modules(remove_duplicate=False))
    state = copy.deepcopy(model.state_dict())
    parameters = list(model.parameters())
    sync = TorchSyncBatchNorm()

    synced = sync.apply(model)
    assert synced is model
    rows, images = synced["rows"], synced["images"]
    assert type(rows[1]) is type(images[1]) is type(synced["volumes"]) is nn.SyncBatchNorm
    assert rows[1] is rows[3]
    assert (images[1].momentum, images[1].eps) == (0.3, 1e-3)
    assert synced["already"] is before["already"]
    assert all(a is b for a, b in zip(parameters, synced.parameters(), strict=True))
    assert list(synced.state_dict()) == list(state)

    assert sync.revert(synced) is model
    after = dict(model.named_modules(remove_duplicate=False))
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    torch.testing.assert_close(model.state_dict(), state)


def test_the_layers_put_back_carry_on() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    sync = TorchSyncBatchNorm()
    sync.apply(model)
    model.double()  # makes new buffers
    model[1].running_mean += 5
    model[1].num_batches_tracked += 3
    model.eval()
    images = torch.randn(2, 1, 5, 5, dtype=torch.float64)
    expected = model(images)
    sync.revert(model)
    assert type(model[1]) is nn.BatchNorm2d
    assert not model[1].training
    assert model[1].running_mean.tolist() == [5, 5]
    assert model[1].num_batches_tracked == 3
    torch.testing.assert_close(model(images), expected)
    assert list(model.state_dict()) == list(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).state_dict())


def test_a_model_that_is_a_batch_norm() -> None:
    layer, sync = nn.BatchNorm1d(3), TorchSyncBatchNorm()
    synced = sync.apply(layer)
    assert type(synced) is nn.SyncBatchNorm
    assert sync.revert(synced) is layer
    assert sync.revert(layer) is layer
