"""Where training stood when a checkpoint was written: as numbers, and in words."""

from collections.abc import Mapping
from typing import Any


def position(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What the counters in a checkpoint say; empty if it holds none.

    `epochs` is how many are over, `epoch` the one that goes on, from 0 on, or None, and `batches` how many of it were trained on. Within an
    epoch of lx, `held` is how many batches lie in a window of `window` without a step yet, and `validating` whether a validation had begun.

    >>> counts = {"epoch_progress": {"current": {"ready": 4, "processed": 3, "completed": 3}}}
    >>> counts["epoch_loop.batch_progress"] = {"current": {"ready": 120, "processed": 120}}
    >>> in_words(position({"loops": {"fit_loop": {**counts, "state_dict": {"held": 2, "window": {"size": 4}}}}}))
    'epoch 3, after 120 batches, in an accumulation window (2 of 4)'
    """
    try:
        fit = checkpoint["loops"]["fit_loop"]
        epoch, batch = fit["epoch_progress"]["current"], fit["epoch_loop.batch_progress"]["current"]
        known = fit.get("state_dict") or {}
        within = epoch["ready"] > epoch["processed"]
        found = {
            "epochs": max(epoch["completed"], epoch["processed"]),
            "epoch": epoch["ready"] - 1 if within else None,
            "batches": batch["processed"],
            "batch_begun": within and batch["ready"] > batch["processed"],
        }
        if within:
            found |= {name: known[name] for name in ("held", "validating") if name in known}
            found |= {"window": known["window"]["size"]} if "size" in known.get("window", {}) else {}
    except (KeyError, TypeError, AttributeError):
        return {}
    return found


def in_words(found: Mapping[str, Any]) -> str:
    """A position as a phrase.

    >>> in_words({"epochs": 3, "epoch": None, "batches": 120})
    'between epochs, after epoch 2'
    """
    if not found:
        return "unknown: it holds no counters"
    if found["epoch"] is None:
        return f"between epochs, after epoch {found['epochs'] - 1}" if found["epochs"] else "before the first epoch"
    phrases = [f"epoch {found['epoch']}", f"after {_batches(found['batches'])}" if found["batches"] else "before the first batch"]
    if found["batch_begun"]:
        phrases.append("within the next one")
    if found.get("validating"):
        phrases.append("in the validation that follows")
    if found.get("held"):
        of = f" of {found['window']}" if "window" in found else " so far"
        phrases.append(f"in an accumulation window ({found['held']}{of})")
    return ", ".join(phrases)


def _batches(number: int) -> str:
    return f"{number} batch{'es' * (number != 1)}"
