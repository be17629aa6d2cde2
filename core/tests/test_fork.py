"""What is undone when a fork is left, and what may be done in it; with fakes."""

import gc
import random
import weakref

import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler

from lx import Callback, Trainer
from lx.kernel.errors import MisconfigurationException, StopRun
from lx.running.fork import forked
from lx.testing.fakes import FakeLogger, fake_plugin_manager
from lx.testing.models import TinyDataModule, TinyModule

pytestmark = pytest.mark.filterwarnings("ignore:.*there is no validation loader")


class Forking(Callback):
    """Runs `body(fork, trainer)` in a fork, when fit begins."""

    def __init__(self, body, callbacks=(), at="on_fit_start", **limits):
        self.body, self.callbacks, self.limits = body, callbacks, limits
        setattr(self, at, self.try_out)

    def try_out(self, trainer, pl_module):
        with forked(trainer, self.callbacks, **self.limits) as fork:
            self.body(fork, trainer)


class Stops(Callback):
    """Ends a run after so many batches, and notes what it saw."""

    def __init__(self, batches):
        self.batches, self.seen = batches, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append((trainer.current_epoch, batch_idx, trainer.global_step))
        trainer.should_stop = len(self.seen) >= self.batches


@pytest.fixture
def trainer(tmp_path):
    def make(*callbacks, **settings):
        arguments = {"max_epochs": 1, "logger": FakeLogger(save_dir=str(tmp_path)), "default_root_dir": tmp_path, "log_every_n_steps": 1}
        return Trainer(callbacks=list(callbacks), manager=fake_plugin_manager(), **{**arguments, **settings})

    return make


def rows(one):
    return [(step, {name: value for name, value in metrics.items() if "time" not in name}) for step, metrics in one.loggers[0].metrics]


def test_a_run_goes_on_over_epochs_until_somebody_asks_to_stop(trainer):
    stops = Stops(6)
    one = trainer(Forking(lambda fork, _: fork.run(), [stops]))
    one.fit(TinyModule(), datamodule=TinyDataModule())
    assert stops.seen == [(0, 0, 1), (0, 1, 2), (0, 2, 3), (0, 3, 4), (1, 0, 5), (1, 1, 6)]
    assert (one.global_step, one.current_epoch) == (4, 1)


@pytest.mark.parametrize("at", ["on_fit_start", "on_train_start", "on_train_epoch_start", "on_train_epoch_end", "on_train_end"])
def test_it_makes_no_difference_when_it_happens(trainer, at):
    def train(*callbacks):
        torch.manual_seed(3)
        one, model = trainer(*callbacks, max_epochs=2), TinyModule()
        one.fit(model, datamodule=TinyDataModule())
        return rows(one), [weight.tolist() for weight in model.parameters()], torch.rand(1).item(), one.global_step, one.callback_metrics

    stops = Stops(5)
    alone, forking = train(), train(Forking(lambda fork, _: fork.run(), [stops], at))
    assert forking == alone
    assert stops.seen


def test_the_trainer_is_as_it_was_also_after_an_error(trainer):
    class Boom(Exception):
        """What ends the fork."""

    before = {}

    def body(fork, one):
        module = one.lightning_module
        with torch.no_grad():
            module.layer.weight.fill_(9)
        module.extra, one.extra = 1, 2
        random.random()
        torch.rand(1)
        fork.run()
        one.received_sigterm = True
        raise Boom

    class Catches(Callback):
        def on_fit_start(self, one, pl_module):
            before.update(vars(one), weight=pl_module.layer.weight.clone(), torch=torch.get_rng_state(), python=random.getstate())
            with pytest.raises(Boom):
                Forking(body, [Stops(1)]).try_out(one, pl_module)
            assert torch.equal(before.pop("weight"), pl_module.layer.weight)
            assert torch.equal(before.pop("torch"), torch.get_rng_state())
            assert before.pop("python") == random.getstate()
            assert not hasattr(pl_module, "extra")
            assert one.received_sigterm, "a signal that comes meanwhile is for the run"
            one.received_sigterm = before["received_sigterm"]
            assert {name: id(value) for name, value in vars(one).items()} == {name: id(value) for name, value in before.items()}

    trainer(Catches()).fit(TinyModule(), datamodule=TinyDataModule())
    assert before


def test_loggers_and_callbacks_of_the_run_are_put_aside(trainer):
    class Counts(Callback):
        def __init__(self):
            self.batches = 0

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.batches += 1

    class Talks(TinyModule):
        def training_step(self, batch, batch_idx):
            if self.logger is not logger:
                self.logger.experiment.add_image("batch", batch).anything()
                self.logger.log_metrics({"mine": 1.0}, step=0)
                self.logger.log_hyperparams({"mine": 1.0})
                self.logger.log_table("a table", [1])
                told.append((self.logger.name, self.logger.version, self.logger.save_dir))
            return super().training_step(batch, batch_idx)

    def body(fork, one):
        fork.run()
        assert "train_loss" in one.callback_metrics

    counts, told = Counts(), []
    one = trainer(counts, Forking(body, [Stops(2)]))
    logger = one.loggers[0]
    one.fit(Talks(), datamodule=TinyDataModule())
    assert counts.batches == 4
    assert told == [(logger.name, logger.version, logger.save_dir)] * 2
    assert not any("mine" in metrics for _, metrics in logger.metrics)
    assert not any("mine" in params for params in logger.hyperparams)


def test_schedulers_can_be_seen_and_do_not_move(trainer):
    class Scheduled(TinyModule):
        def training_step(self, batch, batch_idx):
            assert self.lr_schedulers().get_last_lr()
            return super().training_step(batch, batch_idx)

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.4)
            schedulers = [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5), torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)]
            return [optimizer], [{"scheduler": schedulers[0], "interval": "step"}, {"scheduler": schedulers[1], "monitor": "never_logged"}]

    class OneScheduler(Scheduled):
        def configure_optimizers(self):
            optimizers, schedulers = super().configure_optimizers()
            return optimizers, schedulers[:1]

        def lr_schedulers(self):
            return self.trainer.lr_scheduler_configs[0].scheduler

    rates = []

    class Notes(Stops):
        def on_train_batch_end(self, trainer, pl_module, *rest):
            super().on_train_batch_end(trainer, pl_module, *rest)
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    one = trainer(Forking(lambda fork, _: fork.run(), [Notes(6)]))
    one.fit(OneScheduler(), datamodule=TinyDataModule())
    assert rates == [0.4] * 6
    assert one.optimizers[0].param_groups[0]["lr"] == 0.4 * 0.5**4


def test_loaders_that_are_shared_go_on_where_they_were(trainer):
    def train(*callbacks):
        generator = torch.Generator().manual_seed(1)
        data = TinyDataModule().train_dataloader().dataset
        sampler, own = RandomSampler(data, generator=generator), torch.Generator().manual_seed(2)
        loader = DataLoader(data, batch_size=4, sampler=sampler, generator=own)
        model = TinyModule()
        trainer(*callbacks, max_epochs=2, limit_val_batches=0).fit(model, loader)
        return [weight.tolist() for weight in model.parameters()], generator.get_state().tolist(), own.get_state().tolist()

    assert train(Forking(lambda fork, _: fork.run(), [Stops(5)], "on_train_epoch_start")) == train()


def test_what_can_be_gone_through_once_is_refused(trainer):
    one = trainer(Forking(lambda fork, _: fork.run(), [Stops(1)]), limit_val_batches=0)
    with pytest.raises(MisconfigurationException, match="the train loader, a list_iterator, can be gone through only once"):
        one.fit(TinyModule(), iter([torch.ones(4, 8)]))


def test_a_model_without_shapes_is_refused(trainer):
    class Lazy(TinyModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.LazyLinear(1)

    one = trainer(Forking(lambda fork, _: fork.run(), [Stops(1)]))
    with pytest.raises(MisconfigurationException, match=r"Lazy cannot be tried out before 'layer\.weight' has a shape"):
        one.fit(Lazy(), datamodule=TinyDataModule())


@pytest.mark.parametrize("loaders", [{"a": [torch.ones(2, 8)] * 2}, [[torch.ones(2, 8)] * 2, [torch.ones(2, 8)]], [torch.ones(2, 8)] * 2])
def test_loaders_of_every_shape_stay_what_they_are(trainer, loaders):
    shapes = []

    class Notes(TinyModule):
        def training_step(self, batch, batch_idx):
            shapes.append(type(batch))
            while not isinstance(batch, torch.Tensor):
                batch = next(iter(batch.values() if isinstance(batch, dict) else batch))
            return self.loss(batch)

    trainer(Forking(lambda fork, _: fork.run(), [Stops(1)]), limit_val_batches=0).fit(Notes(), loaders)
    assert len(set(shapes)) == 1
    assert len(shapes) == 3


@pytest.mark.parametrize(("method", "event"), [("validate", "validation"), ("test", "test"), ("predict", "predict")])
def test_an_evaluation_is_tried_out_too(trainer, method, event):
    batches = []

    class Counts(Callback):
        def count(self, *arguments):
            batches.append(arguments[-1])

        on_validation_batch_end = on_test_batch_end = on_predict_batch_end = count

    limit = {"validate": "val"}.get(method, method)
    forking = Forking(lambda fork, _: fork.run(), [Counts()], f"on_{event}_start", **{f"limit_{limit}_batches": 2})
    one = trainer(forking)
    model = TinyModule()
    getattr(one, method)(model, datamodule=TinyDataModule())
    assert batches == [0, 1]
    assert model.training


def test_what_a_run_held_is_freed_when_it_ends(trainer):
    held = []

    class Keeps(TinyModule):
        def training_step(self, batch, batch_idx):
            held.append(weakref.ref(batch[0]))
            held.append(weakref.ref(self.trainer.train_dataloader.dataset))
            loss = super().training_step(batch, batch_idx)
            held.append(weakref.ref(loss))
            return {"loss": loss, "more": torch.ones(1)}

        def validation_step(self, batch, batch_idx):
            held.append(weakref.ref(batch[0]))

    def body(fork, one):
        gc.disable()  # nothing waits in a cycle for the collector, which would come too late for the next run
        try:
            fork.run()
            assert [reference() for reference in held] == [None] * 16
            assert [parameter.grad for parameter in one.lightning_module.parameters()] == [None, None]
        finally:
            gc.enable()

    trainer(Forking(body, [Stops(4)])).fit(Keeps(), datamodule=TinyDataModule())


def test_a_hook_may_end_the_run(trainer):
    ended = []

    class Ends(Callback):
        def on_train_batch_end(self, *arguments):
            raise StopRun("enough")

        def on_exception(self, *arguments):
            ended.append("on_exception")

        def on_fit_end(self, *arguments):
            ended.append("on_fit_end")

        def teardown(self, *arguments):
            ended.append("teardown")

    one = trainer(Ends())
    assert one.fit(TinyModule(), datamodule=TinyDataModule()) is None
    assert ended == ["teardown"]
    assert (one.state.status, one.global_step, one.loggers[0].called("finalize")) == ("finished", 1, [])
