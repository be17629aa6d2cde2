"""Arguments of EarlyStopping and the values that it looks at; with either library the same run must end at the same place."""

import itertools
from typing import Any

NAN, INF = float("nan"), float("inf")

SEQUENCES: dict[str, list[float]] = {
    "falling": [6.0, 5.0, 4.0, 3.0, 2.0, 1.0],
    "rising": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    "equal": [3.0] * 6,
    "falling late": [3.0, 4.0, 4.0, 2.0, 4.0, 4.0],
    "falling slowly": [3.0, 2.95, 2.9, 2.85, 2.8, 2.75],
    "broken": [3.0, 2.0, NAN, 1.0, 0.5, 0.25],
    "infinite": [INF, 3.0, 4.0, -INF, 2.0, 1.0],
    "below zero": [-1.0, -2.0, -1.5, -3.0, -2.5, -2.0],
}

ARGUMENTS: dict[str, dict[str, Any]] = {
    "patience 0": {"patience": 0},
    "patience 1": {"patience": 1},
    "patience 2": {"patience": 2},
    "highest": {"patience": 1, "mode": "max"},
    "highest by more than 1": {"patience": 2, "mode": "max", "min_delta": 1.0},
    "by more than 0.1": {"patience": 2, "min_delta": 0.1},
    "by less than nothing": {"patience": 2, "min_delta": -0.5},
    "good enough": {"stopping_threshold": 2.0},
    "high enough": {"stopping_threshold": 4.0, "mode": "max"},
    "too high": {"divergence_threshold": 4.0},
    "too low": {"divergence_threshold": 1.5, "mode": "max"},
    "any number": {"patience": 2, "check_finite": False},
}

Case = tuple[dict[str, Any], dict[str, Any]]

CASES: dict[str, Case] = {
    f"{values}, {arguments}": (ARGUMENTS[arguments], {"watched": SEQUENCES[values]})
    for values, arguments in itertools.product(SEQUENCES, ARGUMENTS)
}

MANY = [6.0, 5.0, 5.5, 5.2, 5.1, 5.3, 4.0, 4.5, 4.4, 4.6, 4.7, 4.8]

CASES |= {
    "looks after training epochs": ({"patience": 1, "check_on_train_epoch_end": True}, {"watched": SEQUENCES["falling late"]}),
    "looks after validation": ({"patience": 1, "check_on_train_epoch_end": False}, {"watched": SEQUENCES["falling late"]}),
    "validation twice an epoch": ({"patience": 2}, {"watched": MANY, "val_check_interval": 0.5}),
    "validation twice an epoch, after training epochs": (
        {"patience": 2, "check_on_train_epoch_end": True},
        {"watched": MANY, "val_check_interval": 0.5},
    ),
    "validation every second epoch": ({"patience": 1}, {"watched": SEQUENCES["rising"], "check_val_every_n_epoch": 2}),
    "validation every second epoch, after training epochs": (
        {"patience": 3, "check_on_train_epoch_end": True, "strict": False},
        {"watched": SEQUENCES["rising"], "check_val_every_n_epoch": 2},
    ),
    "validation across epochs": (
        {"patience": 1},
        {"watched": MANY, "check_val_every_n_epoch": None, "val_check_interval": 3},
    ),
    "min_epochs": ({"patience": 1}, {"watched": SEQUENCES["rising"], "min_epochs": 4}),
    "min_steps": ({"patience": 1}, {"watched": SEQUENCES["rising"], "min_steps": 11}),
    "min_steps, twice an epoch": ({"patience": 1}, {"watched": [1.0, *MANY], "min_steps": 7, "val_check_interval": 0.5}),
    "max_steps": ({"patience": 2}, {"watched": SEQUENCES["rising"], "max_steps": 6}),
    "the training loss": ({"monitor": "loss", "patience": 2}, {"validates": False}),
    "the training loss, better than": ({"monitor": "loss", "stopping_threshold": 0.6}, {"validates": False}),
    "no validation to look after": ({"monitor": "loss", "check_on_train_epoch_end": False}, {"validates": False}),
    "a value never logged": ({"monitor": "missing"}, {}),
    "a value never logged, not strict": ({"monitor": "missing", "strict": False}, {}),
    "fast_dev_run": ({"patience": 0}, {"watched": SEQUENCES["rising"], "fast_dev_run": 1}),
}
