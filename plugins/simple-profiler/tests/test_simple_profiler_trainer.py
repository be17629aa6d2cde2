import torch

from lx import Callback, LightningModule, Trainer


class Watch(Callback):
    def on_train_batch_end(self, *args):
        """Is there to be measured."""


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_fit_is_measured_under_the_names_of_its_actions(tmp_path):
    trainer = Trainer(
        accelerator="cpu", default_root_dir=tmp_path, max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Watch()], profiler={"simple": {"dirpath": str(tmp_path / "times"), "filename": "report"}},
    )  # fmt: skip
    trainer.fit(Net(), torch.utils.data.DataLoader(torch.ones(8, 3), batch_size=2))
    report = (tmp_path / "times" / "fit-report-0.txt").read_text("utf-8")
    assert trainer.profiler.calls("[LightningModule]Net.training_step") == 4
    assert trainer.profiler.calls("[Callback]Watch.on_train_batch_end") == 4
    assert "[LightningModule]Net.configure_optimizers" in report
    assert "[Callback]Watch.on_train_batch_end" in report
