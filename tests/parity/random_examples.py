"""A training that falls under each of the listed differences, so that none is listed that is not there any more."""

from random_draws import Draw, Logged, Resume, Rows, Schedule

ONCE = {"max_epochs": 1}

EXAMPLES: dict[str, Draw] = {
    "T84": Draw(trainer={"max_epochs": 2, "reload_dataloaders_every_n_epochs": 1}, train=(Rows(count=3, kind="shuffled"),)),
    "M82": Draw(
        trainer=ONCE,
        logged=(
            Logged(name="b", hook="on_train_batch_end"),
            Logged(name="t", value="count", every=2),
        ),
    ),
    "X2": Draw(trainer=ONCE, logged=(Logged(value="count", options={"on_step": False, "on_epoch": True}),), resume=Resume(at=1)),
    "X3": Draw(trainer=ONCE, logged=(Logged(value="count"),), resume=Resume(at=1)),
    "X4": Draw(trainer=ONCE, val=(Rows(count=2),), resume=Resume(at=4)),
    "X4b": Draw(trainer={"max_epochs": 1, "max_steps": 50}, val=(Rows(count=2),), checkpoint={}, resume=Resume()),
    "X1": Draw(
        trainer={"max_epochs": 1},
        val=(Rows(count=2),),
        logged=(Logged("v", "validation_step", "count"),),
        checkpoint={},
        resume=Resume(more=0),
    ),
    "C21": Draw(trainer=ONCE, checkpoint={"save_last": True, "save_top_k": 0}),
    "C25": Draw(
        trainer={"max_epochs": 1},
        logged=(Logged(name="e", hook="on_train_epoch_end", value="count"),),
        checkpoint={"monitor": "e"},
        resume=Resume(more=0),
    ),
    "C17": Draw(trainer={"max_epochs": 1, "check_val_every_n_epoch": None}, checkpoint={}),
    "C41": Draw(
        trainer={"max_epochs": 3, "check_val_every_n_epoch": 2},
        logged=(Logged(name="e", hook="on_train_epoch_end", value="count"),),
        stopping={"monitor": "e", "patience": 0},
    ),
    "C18": Draw(
        trainer=ONCE,
        val=(Rows(count=2),),
        logged=(Logged("v", "validation_step", "count"),),
        checkpoint={"monitor": "v", "every_n_train_steps": 2, "save_top_k": -1},
    ),
    "C16": Draw(trainer=ONCE, val=(Rows(count=2),), checkpoint={"monitor": "missing", "every_n_train_steps": 2}),
    "T51": Draw(
        trainer=ONCE, val=(Rows(count=2),), logged=(Logged("v", "validation_step", "count", {"logger": False}),), then=("validate",)
    ),
    "T80": Draw(trainer={"max_epochs": 1, "limit_train_batches": 0.75}, train=(Rows(count=1), Rows(count=4))),
    "T81": Draw(trainer={"max_epochs": 1, "fast_dev_run": True}, checkpoint={"save_last": True}),
    "T83": Draw(trainer={"max_epochs": 1, "overfit_batches": 1}, val=(Rows(kind="shuffled"),), then=("validate",)),
    "T90": Draw(trainer={"max_epochs": 1, "val_check_interval": 5}),
    "M82 reloaded": Draw(
        trainer={"max_epochs": 2, "reload_dataloaders_every_n_epochs": 1},
        val=(Rows(count=6),),
        logged=(Logged("w", "validation_step", "count", {"on_step": True}),),
    ),
    "M34": Draw(trainer=ONCE, schedule=Schedule(kind="exponential", interval="step"), ends_before=2),
    "M35": Draw(trainer={"max_epochs": 1, "accumulate_grad_batches": 2}, schedule=Schedule(interval="step", frequency=2)),
    "M74": Draw(trainer=ONCE, optimizer="lbfgs", logged=(Logged(value="count"),)),
    "M43": Draw(trainer={"max_epochs": 1, "accumulate_grad_batches": 2}, optimizer="lbfgs"),
    "T75": Draw(trainer={"max_epochs": 1, "accumulate_grad_batches": 2}, ends_before=3),
    "T73": Draw(trainer=ONCE, skipped=(1,)),
    "T100": Draw(trainer={"max_epochs": 1, "accumulate_grad_batches": 3}),
    "T78": Draw(trainer={"max_epochs": 1, "max_steps": 0}, val=(Rows(count=2),)),
    "D20": Draw(trainer=ONCE, train=(Rows(kind="list"),)),
    "D32": Draw(trainer=ONCE, resume=Resume(at=2)),
    "D32 shuffled": Draw(trainer={"max_epochs": 2}, train=(Rows(kind="shuffled"),), resume=Resume(at=2)),
    "M34 resumed": Draw(
        trainer={"max_epochs": 2},
        train=(Rows(count=3, size=1),),
        val=(Rows(),),
        schedule=Schedule(kind="plateau", monitor="v"),
        logged=(Logged("v", "validation_step", "count"),),
        resume=Resume(at=4),
    ),
    "D23": Draw(trainer={"max_epochs": 1, "limit_train_batches": 2}, train=(Rows(count=1, size=1, kind="iterable"),)),
    "T84 validation": Draw(
        trainer={"max_epochs": 2, "check_val_every_n_epoch": 2, "reload_dataloaders_every_n_epochs": 2},
        val=(Rows(count=1),),
        by_hooks=True,
    ),
    "D23 schedulers": Draw(
        trainer={"max_epochs": 2, "limit_train_batches": 2},
        train=(Rows(count=1, size=1, kind="iterable"),),
        schedule=Schedule(),
    ),
    "D15": Draw(trainer=ONCE, train=(Rows(), Rows()), mode="sequential"),
    "X2 watched": Draw(
        trainer=ONCE,
        logged=(Logged("es", "on_train_epoch_start", "count"),),
        checkpoint={"monitor": "es"},
        resume=Resume(at=2),
    ),
    "T74": Draw(trainer={"max_steps": 3}, train=(Rows(count=1),), checkpoint={}, resume=Resume()),
}
