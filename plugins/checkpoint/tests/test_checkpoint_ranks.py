"""Several processes: rank 0 decides names and scores, and nobody saves what others would not."""

import pytest
import torch

from lx.rank_zero import rank_zero_only
from lx.testing.conformance.callback import fake_trainer
from lx.testing.fakes import FakeDistributedStrategy
from lx.testing.models import TinyDataModule, TinyModule
from lx_plugin_checkpoint.callback import ModelCheckpoint


class SecondRank(FakeDistributedStrategy):
    """Rank 1 of two, whose rank 0 has the score 0.25 and names files after it; `agree` is what all ranks agree on."""

    def __init__(self, agree=True, **parts):
        super().__init__(world_size=2, global_rank=1, **parts)
        self.agree = agree

    def broadcast(self, obj, src=0):
        if isinstance(obj, torch.Tensor):
            return torch.tensor(0.25)
        return obj.rpartition("val_loss=")[0] + "val_loss=0.25.ckpt" if isinstance(obj, str) and "val_loss=" in obj else obj

    def reduce_boolean_decision(self, decision, all=True):  # noqa: A002 -- as in the interface
        return decision and self.agree


@pytest.mark.parametrize("agree", [True, False])
def test_another_rank_follows(tmp_path, monkeypatch, agree):
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # a trainer sets it for its process, which other tests share
    checkpoint = ModelCheckpoint(tmp_path, "{epoch}-{val_loss:.2f}", "val_loss", save_top_k=2)
    trainer = fake_trainer(
        tmp_path, checkpoint, strategy=SecondRank(agree), devices=2, use_distributed_sampler=False, num_sanity_val_steps=0
    )
    trainer.fit(TinyModule(), datamodule=TinyDataModule())
    names = [f"epoch={epoch}-val_loss=0.25.ckpt" for epoch in (0, 1)] if agree else []
    assert checkpoint.best_k_models == {str(tmp_path / name): torch.tensor(0.25) for name in names}
    assert trainer.strategy.checkpoint_io.stored == {}
