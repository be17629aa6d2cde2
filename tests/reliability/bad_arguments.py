"""Arguments that cannot be: what is given, the error, and the parts of what it says."""

from datetime import timedelta
from typing import Any

from torch import nn

from lx.kernel.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    CheckpointDirectoryError,
    CheckpointNotFoundError,
    ComponentArgumentError,
    ComponentStringError,
    ComponentTypeError,
    MisconfigurationException,
    UnknownComponentError,
)

NAN = float("nan")
BATCHES = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches")

# The argument, what is given, the classes by which a program may catch it, and the parts of what is said.
OUT_OF_RANGE = [
    ("devices", 0, MisconfigurationException, "at least one device; give a number, a list of indices or 'auto'"),
    ("devices", "0", MisconfigurationException, "at least one device; give a number"),
    ("devices", [], MisconfigurationException, "at least one device; give a number"),
    ("devices", -1, ArgumentTypeError, "with the accelerator 'cpu' it is the number of processes, an integer above 0"),
    ("num_nodes", 0, ArgumentValueError, "it must be an integer, 1 or more"),
    ("fast_dev_run", -1, MisconfigurationException, "True, False or a number of batches, 0 or more"),
    ("max_epochs", -2, MisconfigurationException, "it must be -1 or more (-1: no bound)"),
    ("min_epochs", -1, MisconfigurationException, "it must be 0 or more"),
    ("max_steps", -2, MisconfigurationException, "it must be -1 or more (-1: no bound)"),
    ("min_steps", -1, MisconfigurationException, "it must be 0 or more"),
    ("max_time", "an hour", MisconfigurationException, "it takes a time ('90min'), epochs ('10ep'), optimizer steps ('200st') or batches"),
    ("max_time", timedelta(seconds=-1), MisconfigurationException, "it must not be negative"),
    *(
        (name, value, MisconfigurationException, "an int of 0 or more, or a float from 0.0 to 1.0")
        for name in BATCHES
        for value in (1.5, -1)
    ),
    ("limit_train_batches", NAN, MisconfigurationException, "a number of batches (int) or a fraction (float from 0.0 to 1.0)"),
    ("overfit_batches", -0.5, MisconfigurationException, "an int of 0 or more, or a float from 0.0 to 1.0"),
    ("val_check_interval", 1.5, MisconfigurationException, "an int of 0 or more, or a float from 0.0 to 1.0"),
    ("val_check_interval", 0, MisconfigurationException, "it must be 1 batch or more; limit_val_batches=0 turns validation off"),
    ("val_check_interval", "often", MisconfigurationException, "batches ('500ba'), epochs ('0.5ep', '2ep'), a share ('50%') or a time"),
    (
        "val_check_interval",
        "3st",
        MisconfigurationException,
        "optimizer steps cannot be given here; it takes a number without quotes, batches",
    ),
    ("max_epochs", "1h", MisconfigurationException, "a time cannot be given here; it takes a number without quotes or epochs ('10ep')"),
    ("val_check_interval", timedelta(0), MisconfigurationException, "longer than nothing"),
    ("check_val_every_n_epoch", 0, MisconfigurationException, "it must be 1 or more"),
    ("num_sanity_val_steps", -2, MisconfigurationException, "it must be -1 or more"),
    ("log_every_n_steps", -1, MisconfigurationException, "it must be 0 or more"),
    ("accumulate_grad_batches", 0, MisconfigurationException, "it must be 1 or more"),
    ("gradient_clip_val", -1.0, MisconfigurationException, "it must be 0 or more"),
    ("gradient_clip_val", NAN, MisconfigurationException, "it must be 0 or more"),
    ("gradient_clip_algorithm", "l2", MisconfigurationException, "it must be 'norm' or 'value'"),
    ("deterministic", "yes", MisconfigurationException, "it must be True, False, 'warn' or None"),
    ("reload_dataloaders_every_n_epochs", -1, MisconfigurationException, "it must be 0 or more"),
    (
        "model_registry",
        "mine",
        MisconfigurationException,
        "uploads them to no registry; leave it out, and copy trainer.checkpoint_callback",
    ),
]

NUMBER = "a number of batches (int) or a fraction (float from 0.0 to 1.0)"
OF_ANOTHER_TYPE = [
    ("devices", "gpu", "with the accelerator 'cpu' it is the number of processes, an integer above 0"),
    ("devices", 1.5, "an integer above 0"),
    ("devices", True, "an integer above 0"),
    ("devices", None, "an integer above 0"),
    ("devices", [0, 1], "an integer above 0"),
    ("devices", {"cpu": 1}, "an integer above 0"),
    ("fast_dev_run", "yes", "True, False or a number of batches"),
    ("fast_dev_run", 1.5, "True, False or a number of batches"),
    ("max_epochs", "10", "10 has no unit; it takes a number without quotes or epochs ('10ep')"),
    ("max_epochs", 2.0, "it must be an integer or None. Write max_epochs=2."),
    ("max_epochs", 1.5, "it must be an integer or None"),
    ("max_epochs", True, "it must be an integer or None"),
    ("min_epochs", "1", "1 has no unit; it takes a number without quotes or epochs ('10ep')"),
    ("max_steps", None, "it must be an integer. Use -1 for no bound."),
    ("max_steps", 1e3, "it must be an integer. Write max_steps=1000."),
    ("min_steps", 2.5, "it must be an integer or None"),
    ("max_time", 10, "a duration is '90min', '1h30min', '00:01:30:00'"),
    ("max_time", {"hour": 1}, "a duration is '90min', '1h30min', '00:01:30:00'"),
    *((name, value, NUMBER) for name in BATCHES for value in (True, [5])),
    *((name, "5", "5 has no unit; it takes a number without quotes, batches ('500ba') or a share ('50%')") for name in BATCHES),
    ("overfit_batches", None, NUMBER),
    ("val_check_interval", [1], NUMBER),
    ("val_check_interval", {"minute": 1}, "a duration is '90min', '1h30min', '00:01:30:00'"),
    ("check_val_every_n_epoch", 1.5, "it must be an integer or None"),
    ("num_sanity_val_steps", "all", "that is no number with a unit; it takes a number without quotes or batches ('500ba')"),
    ("log_every_n_steps", 0.5, "it must be an integer"),
    ("accumulate_grad_batches", "2", "2 has no unit; it takes a number without quotes or batches ('500ba')"),
    ("accumulate_grad_batches", {0: 2}, "it must be an integer. For a number that changes pass a function from the number of steps"),
    ("gradient_clip_val", "1", "it must be a number, 0 or more, or None"),
    ("reload_dataloaders_every_n_epochs", None, "it must be an integer"),
    ("default_root_dir", 3, "it must be a path, as a string or a Path, or None"),
    ("benchmark", "yes", "it must be True, False or None."),
    ("inference_mode", "no", "it must be True or False."),
    ("use_distributed_sampler", "no", "it must be True or False."),
    ("detect_anomaly", "no", "it must be True or False."),
    ("barebones", "no", "it must be True or False."),
    ("sync_batchnorm", "no", "it must be True or False."),
    ("enable_autolog_hparams", "no", "it must be True or False."),
    ("suggest_integrations", "no", "it must be True or False."),
    ("enable_checkpointing", "no", "it must be True, False or None. To choose which one, name it in callbacks."),
    ("enable_progress_bar", "tqdm", "it must be True, False or None. To choose which one, name it in callbacks."),
    ("enable_model_summary", "full", "it must be True, False or None. To choose which one, name it in callbacks."),
]

EXCLUDE_EACH_OTHER: list[tuple[dict[str, Any], type[Exception], str]] = [
    *(
        ({"barebones": True, name: value}, ArgumentValueError, rf"Trainer\(barebones=True, {name}=.*leave one of the two out")
        for name, value in {
            "logger": True,
            "enable_checkpointing": True,
            "enable_progress_bar": True,
            "enable_model_summary": True,
            "num_sanity_val_steps": 2,
            "log_every_n_steps": 5,
            "fast_dev_run": True,
            "detect_anomaly": True,
            "profiler": "simple",
        }.items()
    ),
    (
        {"val_check_interval": 0.5, "check_val_every_n_epoch": None},
        MisconfigurationException,
        "val_check_interval=0.5 is a fraction of an epoch, and check_val_every_n_epoch=None .*; give a number of batches",
    ),
    (
        {"enable_checkpointing": False, "callbacks": "model_checkpoint"},
        MisconfigurationException,
        "enable_checkpointing=False, and callbacks holds model_checkpoint; drop one of the two",
    ),
    (
        {"enable_progress_bar": False, "callbacks": ["tqdm"]},
        MisconfigurationException,
        "enable_progress_bar=False, and callbacks holds tqdm; drop one of the two",
    ),
    ({"callbacks": ["tqdm", "rich"]}, MisconfigurationException, r"callbacks holds 2 progress bars \(tqdm, rich_progress_bar\); give one"),
    (
        {"callbacks": ["early_stopping(monitor='a')", "early_stopping(monitor='a', patience=9)"]},
        RuntimeError,
        "two callbacks have the state_key .*EarlyStopping.*; give them different arguments, or override state_key",
    ),
]


# -- beyond a Trainer's own arguments ------------------------------------------------------------------------------------------------

DURATION = "a duration is '90min', '1h30min'"
WRITTEN = "that is no number with a unit; it takes a duration: '90min'"
FOLDER = "it must be a path, as a string or a Path, or None"

# The kind, a component string, the exact class of the error, and the parts of what is said: the argument with what was given, and the cure.
COMPONENTS: list[tuple[str, str, type[Exception], tuple[str, ...]]] = [
    ("callback", "early_stopping(monitor=3)", MisconfigurationException, ("monitor=3", "the name of a logged value, such as 'val_loss'")),
    ("callback", "early_stopping(monitor='')", MisconfigurationException, ("monitor=''", "the name of a logged value, such as 'val_loss'")),
    ("callback", "early_stopping('x', mode='maximum')", MisconfigurationException, ("mode='maximum'", "it must be 'min' or 'max'")),
    ("callback", "early_stopping('x', patience=-1)", MisconfigurationException, ("patience=-1", "it must be 0 or more")),
    ("callback", "early_stopping('x', patience='3')", ArgumentTypeError, ("patience='3'", "it must be an integer")),
    ("callback", "early_stopping('x', min_delta='a')", ArgumentTypeError, ("min_delta='a'", "it must be a number")),
    ("callback", "early_stopping('x', stopping_threshold='a')", ArgumentTypeError, ("stopping_threshold='a'", "a number or None")),
    ("callback", "early_stopping('x', divergence_threshold=True)", ArgumentTypeError, ("divergence_threshold=True", "a number or None")),
    ("callback", "early_stopping", ComponentArgumentError, ("missing a required argument: 'monitor'", "It accepts: monitor, min_delta")),
    ("callback", "model_checkpoint(monitor=3)", MisconfigurationException, ("monitor=3", "the name of a logged value")),
    ("callback", "model_checkpoint(mode='best')", MisconfigurationException, ("mode='best'", "it must be 'min' or 'max'")),
    ("callback", "model_checkpoint(save_top_k=-2)", MisconfigurationException, ("save_top_k=-2", "-1 (all), 0 (none) or a number")),
    ("callback", "model_checkpoint(save_top_k=2)", MisconfigurationException, ("save_top_k=2 needs monitor=", "says which are the best")),
    ("callback", "model_checkpoint(save_last='links')", MisconfigurationException, ("save_last='links'", "True, False, None or 'link'")),
    ("callback", "model_checkpoint(every_n_epochs=-1)", MisconfigurationException, ("every_n_epochs=-1", "it must be 0 or more")),
    (
        "callback",
        "model_checkpoint(every_n_train_steps='10')",
        ArgumentTypeError,
        ("every_n_train_steps='10'", "steps ('200st')"),
    ),
    ("callback", "model_checkpoint(train_time_interval=5)", ArgumentTypeError, ("train_time_interval=5", DURATION)),
    (
        "callback",
        "model_checkpoint(every_n_train_steps=5, every_n_epochs=1)",
        MisconfigurationException,
        ("every_n_train_steps=5, every_n_epochs=1", "exclude each other; give one"),
    ),
    ("callback", "model_checkpoint(filename='{epoch')", MisconfigurationException, ("filename='{epoch'", "Write fields as {name}")),
    ("callback", "model_checkpoint(dirpath=3)", ArgumentTypeError, ("dirpath=3", FOLDER)),
    ("callback", "model_checkpoint(filename=3)", ArgumentTypeError, ("filename=3", "'{epoch}-{val_loss:.2f}', or None")),
    ("callback", "on_exception_checkpoint(3)", ArgumentTypeError, ("dirpath=3", "it must be a path, as a string or a Path")),
    ("callback", "on_exception_checkpoint('x', '')", ArgumentValueError, ("filename=''", "such as 'on_exception'")),
    ("profiler", "simple(dirpath=3)", ArgumentTypeError, ("dirpath=3", FOLDER)),
    (
        "callback",
        "lr_monitor(logging_interval='batch')",
        MisconfigurationException,
        ("logging_interval='batch'", "'epoch' or None"),
    ),
    ("callback", "timer(5)", ArgumentTypeError, ("duration=5", DURATION)),
    ("callback", "timer('soon')", MisconfigurationException, ("duration='soon'", WRITTEN)),
    ("callback", "timer('10ep')", MisconfigurationException, ("duration='10ep': epochs cannot be given here", "it takes a duration")),
    ("callback", "timer('90')", MisconfigurationException, ("duration='90': 90 has no unit", "it takes a duration")),
    ("callback", "timer('90 minutes')", MisconfigurationException, ("duration='90 minutes': write '90min'", "it takes a duration")),
    ("callback", "timer('1:2')", MisconfigurationException, ("duration='1:2': DD:HH:MM:SS has hours below 24", "it takes a duration")),
    ("callback", "timer(interval='batch')", MisconfigurationException, ("interval='batch'", "it must be 'step' or 'epoch'")),
    ("callback", "tqdm(refresh_rate=-1)", MisconfigurationException, ("refresh_rate is -1", "or 0 to disable the bar")),
    ("callback", "model_summary(max_depth=-2)", ArgumentValueError, ("max_depth=-2", "-1 for all layers, 0 for no summary")),
    ("callback", "spike_detection(window=0)", MisconfigurationException, ("window=0", "it must be 1 or more")),
    ("callback", "spike_detection(mode='up')", MisconfigurationException, ("mode='up'", "'min' (a spike is a rise) or 'max' (a fall)")),
    ("callback", "throughput_monitor(window_size=0)", ArgumentValueError, ("window_size=0", "must hold 2 or more")),
    ("callback", "prediction_writer('each')", MisconfigurationException, ("write_interval='each'", "'batch', 'epoch', 'batch_and_epoch'")),
    ("callback", "batch_size_finder(mode='x')", ArgumentValueError, ("mode='x'", "it must be one of power, binsearch")),
    ("callback", "learning_rate_finder(min_lr=0)", MisconfigurationException, ("min_lr=0, max_lr=1", "from more than 0")),
    ("callback", "on_exception_checkpoint", ComponentArgumentError, ("missing a required argument: 'dirpath'", "It accepts: dirpath")),
    ("callback", "watchdog(600)", ArgumentTypeError, ("bound=600", DURATION)),
    ("callback", "watchdog('0s')", MisconfigurationException, ("bound='0s'", "longer than nothing, such as '10min'")),
    ("callback", "watchdog(on_hang='stop')", MisconfigurationException, ("on_hang='stop'", "it must be 'end' or 'report'")),
    ("callback", "early_stopping('x', patiens=3)", ComponentArgumentError, ("'patiens'", "Did you mean 'patience'?")),
    ("callback", "early_stopping(monitor=val)", ComponentStringError, ("'val', which is no literal", "for anything else pass an instance")),
    ("callback", "early stopping", ComponentStringError, ("'early stopping' is not a component string", "Write it as")),
    ("callback", "early_stoping('x')", UnknownComponentError, ("there is no callback", "Did you mean 'early_stopping'?")),
    ("logger", "csv(save_dir=3)", ArgumentTypeError, ("save_dir=3", FOLDER)),
    ("logger", "csv(name=3)", ArgumentTypeError, ("name=3", "it must be the name of a folder, or None")),
    ("logger", "csv(version=1.5)", MisconfigurationException, ("version=1.5", "pass a number from 0 on, the name of a folder, or None")),
    ("logger", "csv(flush_logs_every_n_steps=0)", MisconfigurationException, ("flush_logs_every_n_steps=0", "a whole number from 1 on")),
    ("logger", "csv(save_dir='s3://bucket/x')", MisconfigurationException, ("save_dir='s3://bucket/x'", "Pass a local path")),
    ("logger", "csv(nmae='a')", ComponentArgumentError, ("'nmae'", "Did you mean 'name'? It accepts: save_dir, name")),
    ("logger", "tensorboard(save_dir=3)", ArgumentTypeError, ("save_dir=3", FOLDER)),
    ("logger", "tensorboard(sub_dir=3)", ArgumentTypeError, ("sub_dir=3", FOLDER)),
    ("logger", "mlflow(log_model='some')", MisconfigurationException, ("log_model='some'", "it must be True, False or 'all'")),
    ("logger", "wandb(", ComponentStringError, ("'wandb(' is not a component string", "Write it as")),
    ("strategy", "ddp(start_method='x')", MisconfigurationException, ("start_method='x'", "Leave start_method out")),
    ("strategy", "ddp(buckets=3)", ComponentArgumentError, ("'buckets'", "It accepts: ")),
    ("profiler", "simple(3, 4, 5, 6, 7)", ComponentArgumentError, ("too many positional arguments", "It accepts: dirpath")),
]

PROCESSES = "it is the number of processes, an integer above 0"

# The arguments of a Fabric, as above.
OF_FABRIC: list[tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = [
    ({"devices": 0}, MisconfigurationException, ("devices=0", "at least one device; give a number, a list of indices or 'auto'")),
    ({"devices": "x"}, ArgumentTypeError, ("devices='x'", PROCESSES)),
    ({"devices": None}, ArgumentTypeError, ("devices=None", PROCESSES)),
    ({"num_nodes": "2"}, ArgumentValueError, ("num_nodes='2'", "it must be an integer, 1 or more")),
    ({"accelerator": "gppu"}, UnknownComponentError, ("there is no accelerator 'gppu'", "Installed: cpu, cuda, mps")),
    ({"accelerator": 3}, ComponentTypeError, ("accelerator: 3 is no name", "Installed: cpu, cuda, mps")),
    ({"strategy": "dpp"}, UnknownComponentError, ("there is no strategy 'dpp'", "Did you mean 'ddp'?")),
    ({"precision": "fp16"}, UnknownComponentError, ("there is no precision 'fp16'", "Did you mean 'bf16-mixed' or '16-mixed'?")),
    ({"precision": 17.0}, ComponentTypeError, ("precision: 17.0 is no name", "Installed: 16-mixed, 16-true")),
    ({"plugins": 3}, ComponentTypeError, ("plugins: 3 is no registered name", "Precision, CheckpointIO, ClusterEnvironment, LayerSync")),
    ({"loggers": 3}, ComponentTypeError, ("loggers: 3 is no name", "Installed: comet, csv")),
    ({"loggers": "csv(save_dir=3)"}, ArgumentTypeError, ("save_dir=3", FOLDER)),
    ({"device": 1}, ArgumentTypeError, ("Fabric has no argument 'device'", "Did you mean 'devices'?")),
    ({"gpus": 1}, ArgumentTypeError, ("Fabric has no argument 'gpus'", "Use devices, with accelerator='gpu'")),
]

# The method of a Fabric and what it is passed, as above.
CALLS_OF_FABRIC: list[tuple[str, tuple[Any, ...], dict[str, Any], type[Exception], tuple[str, ...]]] = [
    ("setup", ("model",), {}, ArgumentTypeError, ("'model' cannot be set up as a Module", "pass an object of torch.nn")),
    ("setup", (nn.Linear,), {}, ArgumentTypeError, ("cannot be set up as a Module", "Did you mean Linear(...)?")),
    ("setup", (nn.Linear(1, 1), 3), {}, ArgumentTypeError, ("3 cannot be set up as a Optimizer", "pass an object of torch.optim")),
    ("setup_optimizers", (3,), {}, ArgumentTypeError, ("3 cannot be set up as a Optimizer", "pass an object of torch.optim")),
    ("setup_dataloaders", ([1],), {}, ArgumentTypeError, ("[1] cannot be set up as a DataLoader", "pass an object of torch.utils.data")),
    (
        "clip_gradients",
        (nn.Linear(1, 1), None),
        {"clip_val": 1, "max_norm": 1},
        ArgumentValueError,
        ("clip_val=1, max_norm=1", "it takes either clip_val or max_norm"),
    ),
    ("load", ("nothing.ckpt",), {}, CheckpointNotFoundError, ("there is no checkpoint 'nothing.ckpt'", "The folder ")),
]

# The entry point of a Trainer and what it is passed beside a model and data, as above.
CALLS_OF_TRAINER: list[tuple[str, dict[str, Any], type[Exception], tuple[str, ...]]] = [
    ("fit", {"ckpt_path": "nothing.ckpt"}, CheckpointNotFoundError, ("there is no checkpoint 'nothing.ckpt'", "The folder ")),
    ("fit", {"ckpt_path": 3}, ArgumentTypeError, ("ckpt_path=3", "it must be a path, 'auto', 'best', 'last'")),
    ("fit", {"ckpt_path": "."}, CheckpointDirectoryError, ("'.' is a directory", "Name a file in it")),
    ("fit", {"ckpt": "x"}, ArgumentTypeError, ("Trainer.fit has no argument 'ckpt'", "Did you mean 'ckpt_path'?")),
    ("fit", {"train_dataloader": []}, ArgumentTypeError, ("no argument 'train_dataloader'", "Did you mean 'train_dataloaders'?")),
    ("fit", {"epochs": 3}, ArgumentTypeError, ("Trainer.fit has no argument 'epochs'", "It takes: model, train_dataloaders")),
    ("fit", {"val_dataloaders": 7}, TypeError, ("val_dataloaders: it must be an iterable of batches", "not 7")),
    ("fit", {"datamodule": 3}, ArgumentTypeError, ("trainer.fit(datamodule=...)", "not a int")),
    ("validate", {"ckpt_path": "nothing.ckpt"}, CheckpointNotFoundError, ("there is no checkpoint 'nothing.ckpt'", "The folder ")),
    ("validate", {"val_dataloaders": []}, ArgumentTypeError, ("no argument 'val_dataloaders'", "Did you mean 'dataloaders'?")),
    ("test", {"ckpt": "x"}, ArgumentTypeError, ("Trainer.test has no argument 'ckpt'", "Did you mean 'ckpt_path'?")),
    ("test", {"ckpt_path": 3}, ArgumentTypeError, ("ckpt_path=3", "it must be a path, 'auto', 'best', 'last'")),
    ("predict", {"return_predictions": "no"}, ArgumentTypeError, ("return_predictions='no'", "True, False or None")),
    ("predict", {"verbose": False}, ArgumentTypeError, ("Trainer.predict has no argument 'verbose'", "It takes: model, dataloaders")),
]
