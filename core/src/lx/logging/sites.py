"""Where `self.log` may be called, and what it means there if nothing more is said."""

from lx.kernel.errors import MisconfigurationException

STEP = (True, False)
EPOCH = (False, True)

_TRAIN = (
    "training_step",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_backward",
    "on_after_backward",
    "backward",
    "on_before_optimizer_step",
    "optimizer_step",
    "configure_gradient_clipping",
    "clip_gradients",
    "on_before_zero_grad",
    "optimizer_zero_grad",
)
_EVAL = (
    "validation_step",
    "test_step",
    "on_validation_batch_start",
    "on_validation_batch_end",
    "on_test_batch_start",
    "on_test_batch_end",
)
_EPOCH_ONLY = tuple(f"on_{stage}_{moment}" for stage in ("train", "validation", "test") for moment in ("start", "epoch_start", "epoch_end"))

DEFAULTS: dict[str, tuple[bool, bool]] = {**dict.fromkeys(_TRAIN, STEP), **dict.fromkeys(_EVAL, EPOCH), **dict.fromkeys(_EPOCH_ONLY, EPOCH)}
"""For each hook that may log: the defaults of `on_step` and `on_epoch`."""

EPOCH_ONLY = frozenset(_EPOCH_ONLY)
"""The hooks that run once an epoch, in which there is no step to log for."""


def placement(site: str | None, name: str, on_step: bool | None, on_epoch: bool | None) -> tuple[bool, bool]:
    """`(on_step, on_epoch)` with the defaults of the hook filled in; raises `MisconfigurationException` where it cannot be.

    >>> placement("training_step", "loss", None, True)
    (True, True)
    """
    if site not in DEFAULTS:
        where = f"in {site}" if site else "outside of the hooks that the trainer calls"
        raise MisconfigurationException(
            f"self.log({name!r}) was called {where}, where nothing can be logged; call it in a step or in a hook of training, validation or"
            " test (not in fit_start, setup or prediction)."
        )
    default_step, default_epoch = DEFAULTS[site]
    step = default_step if on_step is None else on_step
    epoch = default_epoch if on_epoch is None else on_epoch
    if site in EPOCH_ONLY and step:
        raise MisconfigurationException(
            f"self.log({name!r}, on_step=True) in {site}: this hook runs once an epoch, so only on_epoch=True goes."
        )
    if not step and not epoch:
        raise MisconfigurationException(f"self.log({name!r}) in {site}: on_step and on_epoch are both False, so nothing would be logged.")
    return step, epoch
