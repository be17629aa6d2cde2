"""The hyperparameters of a run, sent to its loggers."""

from collections.abc import Iterable
from typing import Any

from lx.kernel.errors import MisconfigurationException


def send_hyperparameters(trainer: Any, owners: Iterable[Any]) -> None:
    """Sends those of all owners as one, and lets loggers draw the model; called on every rank, and rank 0 sends.

    Names that begin with `_` stay here. Raises `MisconfigurationException` for a name that has different values.
    """
    params: dict[str, Any] = {}
    for owner in owners:
        if owner is None or not owner.logs_hparams:
            continue
        mine = {name: value for name, value in owner.hparams_initial.items() if not name.startswith("_")}
        clash = [name for name in mine if name in params and _differs(params[name], mine[name])]
        if clash:
            raise MisconfigurationException(
                f"the module and the data module have different values for the hyperparameters {clash}; name them differently."
            )
        params.update(mine)
    if not trainer.enable_autolog_hparams or not trainer.is_global_zero:
        return
    for logger in trainer.loggers:
        if params:
            logger.log_hyperparams(params)
        logger.log_graph(trainer.lightning_module)
        logger.save()


def _differs(one: Any, other: Any) -> bool:
    try:
        return bool(one != other)
    except (TypeError, ValueError, RuntimeError):  # arrays compare elementwise
        return one is not other
