"""The demonstration models train, and their data is what it says."""

import pytest
import torch

import lx.demos
from lx import Trainer
from lx.demos import (
    BoringDataModule,
    BoringModel,
    DemoModel,
    LightningTransformer,
    MadeUpText,
    ManualOptimBoringModel,
    RandomDictDataset,
    RandomIterableDatasetWithLen,
    Transformer,
)


@pytest.fixture
def trainer(plugin_manager, tmp_path):
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(manager=plugin_manager, default_root_dir=tmp_path, max_steps=3, limit_val_batches=2, limit_test_batches=2, **off)


@pytest.mark.parametrize("model", [BoringModel, ManualOptimBoringModel, DemoModel])
@pytest.mark.parametrize("data", [None, BoringDataModule])
def test_every_entry_point_works(model, data, trainer):
    one, loaders = model(), {} if data is None else {"datamodule": data()}
    before = one.layer.weight.detach().clone()
    trainer.fit(one, **loaders)
    assert trainer.global_step == 3
    assert not torch.equal(one.layer.weight, before)
    trainer.validate(one, **loaders, verbose=False)
    trainer.test(one, **loaders, verbose=False)
    assert len(trainer.predict(one, **loaders)) == 64


def test_the_transformer_learns_the_made_up_language(trainer):
    torch.manual_seed(1)
    model = LightningTransformer(vocab_size=5)
    model.model = Transformer(vocab_size=5, ninp=16, nhid=16, nlayers=1, dropout=0.0)
    losses = []
    model.on_train_batch_end = lambda outputs, batch, batch_idx: losses.append(float(outputs["loss"]))
    trainer.fit(model)
    assert losses[-1] < losses[0]


def test_the_transformer_does_not_see_what_follows():
    model = Transformer(vocab_size=9, ninp=7 + 1, nhid=8, nlayers=1).eval()
    words = torch.arange(8).unsqueeze(0)
    changed = torch.cat([words[:, :-1], torch.tensor([[0]])], dim=1)
    with torch.no_grad():
        first, second = (model(words, target).view(8, 9) for target in (words, changed))
    assert torch.allclose(first[:-1], second[:-1])
    assert not torch.allclose(first[-1], second[-1])


def test_the_text_is_the_same_each_time():
    text = MadeUpText(blocks=3, block_size=4, vocab_size=6)
    assert len(text) == 3
    assert torch.equal(text.words, MadeUpText(blocks=3, block_size=4, vocab_size=6).words)
    assert text[-1][1][-1] == text.words[12]
    with pytest.raises(IndexError):
        text[3]


def test_rows():
    assert len(RandomIterableDatasetWithLen(2, 5)) == len(list(RandomIterableDatasetWithLen(2, 5))) == 5
    row = RandomDictDataset(4, 2)[1]
    assert torch.equal(row["a"], 2 * row["b"])


def test_the_names():
    assert dir(lx.demos) == sorted(lx.demos.__all__)
    assert all(getattr(lx.demos, name).__name__ == name for name in lx.demos.__all__)
    with pytest.raises(AttributeError, match="it offers BoringDataModule"):
        lx.demos.BoringModule
