"""What may leave a budget, each with its reason. A test fails for an entry that is not needed any more."""

METHODS = {
    "lx.interfaces.callback:Callback": "a list of hooks for users",
    "lx.interfaces.strategy:Strategy": "the interface for devices, processes and checkpoints; five members are abstract",
    "lx.module:LightningModule": "a list of hooks for users",
}
"""Classes with more than 20 methods."""

PARAMETERS: dict[str, str] = {}
"""Functions with more than 8 parameters, beside constructors of components, which mirror what they wrap."""

PRIVATE: dict[str, str] = {}
"""Private names of other packages, as `module attribute`."""

WORDS: dict[str, str] = {}
"""Strings in lx-core that are names of components, and mean something else there."""
