"""Where checkpoints, and what is made of them, differ from Lightning's on purpose. An entry that is not true any more fails a test.

Each reason begins with its id in docs/explain/differences.md.
"""

CONTENT = {
    "pytorch-lightning_version": "X1: the release whose layout lx writes",
    "datamodule_class": "D6: which class wrote the state of the data module, whose key is the name of the class alone",
    "loops/fit_loop/state_dict/metrics": "X1: what callbacks and schedulers looked at, so that they see it again",
    "loops/fit_loop/state_dict/seconds": "X1: how long fit has run, an axis of loggers",
    "loops/fit_loop/state_dict/samples": "X1: how many samples were seen, which may be the axis of a plot",
    "loops/fit_loop/state_dict/windows_before": "X1: where in its epoch a scheduler with a frequency stands",
    "loops/fit_loop/state_dict/held": "X1: how many batches wait for a step",
    "loops/fit_loop/state_dict/random": "X1: the states of random generators, and how the passes over the data began",
    "loops/fit_loop/state_dict/unsent": "X1: the values of an epoch that loggers have not got yet",
    "loops/fit_loop/state_dict/validating": "X1: whether what comes after the batch was still to be done",
    "loops/fit_loop/state_dict/meters": "X1: the sums behind the means of the epoch",
    "loops/fit_loop/state_dict/gradients": "X1: those that no step has taken yet; in manual optimization, all that are there",
    "loops/fit_loop/state_dict/window": "X1: what is known of the open window",
}
"""What a file holds that is not Lightning's, by the path within it."""

_UNSEEN = "X4: Lightning's file does not hold the value that the plateau scheduler has not seen yet, and Lightning itself skips it"

READ = {
    "plateau, end of an epoch": _UNSEEN,
    "plateau, end of validation": _UNSEEN,
    "plateau, within an epoch": "X2: of a mean over an epoch, Lightning's file does not hold the part before it was written",
}
"""Runs that lx cannot bring to the end of an uninterrupted one from a file of Lightning."""

_AGAIN = "D32: Lightning begins the loader anew, and trains twice on the batches that came first"
_STEPS = "X4b: with max_steps, Lightning takes a file of an epoch's end for one of its middle, and loses an epoch or adds a batch"

PEER = {
    "within an epoch": _AGAIN,
    "within an epoch, no validation": _AGAIN,
    "validation twice an epoch, the first": _AGAIN,
    "by step, within an epoch": _AGAIN,
    "plateau, within an epoch": _AGAIN,
    "accumulating, within an epoch": _AGAIN,
    "accumulating, by step": _AGAIN,
    "accumulating, within a window": _AGAIN,
    "manual, within an epoch": _AGAIN,
    "validation every second epoch": _AGAIN,
    "validation across epochs": _AGAIN,
    "max_steps, within an epoch": _AGAIN,
    "max_steps, end of an epoch": _STEPS,
    "max_steps, end of an epoch, no validation": _STEPS,
    "max_steps that ends it, end of an epoch": _STEPS,
    "plateau, end of an epoch": _UNSEEN,
    "plateau, end of validation": _UNSEEN,
}
"""Runs that Lightning does not bring to the end of an uninterrupted one from a file of its own, and lx does."""

CALLBACKS = {
    "patience": "C43: whoever goes on with another patience means it; Lightning goes back to that of the file",
    "current_score": "C25: the newest score is known; Lightning writes it, and does not read it",
}
"""What callbacks know after a file was read, where Lightning's know something else."""

_KEEPS_UP = (
    "C21: with no other file, the last one is written whenever one is due, since a run that crashed needs it, and not once more at the end"
)
_STALE = "C18: a step is ranked by the validation that follows it; Lightning takes the value of the one before, and skips the first"

FILES = {
    "last alone": _KEEPS_UP,
    "last as a link, none": _KEEPS_UP,
    "none of mixed, last": _KEEPS_UP,
    "steps, by a value": _STALE,
    "steps, two by a value": _STALE,
    "steps of the epoch, by a value": _STALE,
    "steps, accumulating, by a value": "C18: Lightning also saves a second time, at the first batch of the next window",
    "twice an epoch, by steps": _STALE,
    "validation across epochs, by steps": _STALE,
    "steps, by the training loss": "C18: a step without a value waits for the end of the epoch; Lightning skips it",
    "fast_dev_run": "T81: it writes nothing; Lightning writes the last one",
}
"""Runs with a ModelCheckpoint that leave other files, or another ranking."""
