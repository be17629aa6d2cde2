"""The layers of lx-core, the lowest first. A module imports from its own layer and from those below.

A module that is not listed belongs where its package does.
"""

LAYERS = (
    {"lx.kernel"},
    # Small parts that know torch, and nothing of lx but the kernel and each other.
    {
        "lx.arguments",
        "lx.batch",
        "lx.clipping",
        "lx.data.samplers",
        "lx.delegate",
        "lx.devices",
        "lx.experiment",
        "lx.flags",
        "lx.hparams_file",
        "lx.limits",
        "lx.memory",
        "lx.rank_zero",
        "lx.resolution",
        "lx.results",
        "lx.rng",
        "lx.run_folder",
        "lx.signals",
        "lx.spans",
        "lx.state",
        "lx.summary",
    },
    {"lx.interfaces", "lx.neutral"},
    {"lx.choose", "lx.dispatch", "lx.fabric", "lx.fabric_state", "lx.resolve", "lx.wrappers"},
    {
        "lx.checkpoint",
        "lx.checkpoint_search",
        "lx.data",
        "lx.hooks",
        "lx.hparams",
        "lx.logging",
        "lx.module",
        "lx.module_loading",
        "lx.optimizers",
        "lx.unfinished",
    },
    {"lx.loops"},
    {"lx.ending", "lx.run", "lx.run_view", "lx.trainer", "lx.verify"},
    # What users import: names that are resolved on first use.
    {"lx", "lx.accelerators", "lx.callbacks", "lx.loggers", "lx.plugins", "lx.profilers", "lx.strategies"},
    {"lx.cli", "lx.testing"},
)
