"""Functions and classes for code around training, under Lightning's names; each is imported, and torch with it, when it is used.

`from lx.utilities import grad_norm`, or from the module that Lightning has it in: `from lx.utilities.grads import grad_norm`. Where
something is defined, its `__module__` tells.
"""

import sys
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors see
    from lx.batch import apply_to_collection, convert_tensors_to_scalars, move_data_to_device
    from lx.data.combined import CombinedLoader
    from lx.enumeration import GradClipAlgorithmType, LightningEnum
    from lx.hparams.mixin import AttributeDict, is_picklable
    from lx.kernel.errors import MisconfigurationException, SIGTERMException
    from lx.measures.flops import measure_flops
    from lx.measures.gradients import grad_norm
    from lx.measures.machine import is_shared_filesystem, suggested_max_num_workers
    from lx.measures.memory import free_memory as garbage_collection_cuda
    from lx.measures.memory import is_out_of_memory as is_oom_error
    from lx.measures.peak_flops import get_available_flops
    from lx.measures.sharing import find_shared_parameters, set_shared_parameters
    from lx.measures.summary import LayerSummary, ModelSummary, summarize
    from lx.measures.throughput import Throughput, ThroughputMonitor
    from lx.optimizers import LRSchedulerConfig
    from lx.rank_zero import (
        LightningDeprecationWarning,
        PossibleUserWarning,
        disable_possible_user_warnings,
        rank_prefixed_message,
        rank_zero_debug,
        rank_zero_deprecation,
        rank_zero_info,
        rank_zero_only,
        rank_zero_warn,
    )
    from lx.rng import isolate_rng, reset_seed, seed_everything
    from lx.rng import worker_init_function as pl_worker_init_function
    from lx.running.compiled import from_compiled, to_uncompiled
    from lx.types import (
        EVAL_DATALOADERS,
        STEP_OUTPUT,
        TRAIN_DATALOADERS,
        LRSchedulerConfigType,
        LRSchedulerTypeUnion,
        OptimizerConfig,
        OptimizerLRScheduler,
        OptimizerLRSchedulerConfig,
    )

_MODULES = {
    "lx.batch": "apply_to_collection convert_tensors_to_scalars move_data_to_device",
    "lx.running.compiled": "from_compiled to_uncompiled",
    "lx.data.combined": "CombinedLoader",
    "lx.enumeration": "GradClipAlgorithmType LightningEnum",
    "lx.measures.flops": "measure_flops",
    "lx.measures.gradients": "grad_norm",
    "lx.hparams.mixin": "AttributeDict is_picklable",
    "lx.kernel.errors": "MisconfigurationException SIGTERMException",
    "lx.measures.machine": "is_shared_filesystem suggested_max_num_workers",
    "lx.measures.memory": "free_memory is_out_of_memory",
    "lx.measures.peak_flops": "get_available_flops",
    "lx.rank_zero": (
        "LightningDeprecationWarning PossibleUserWarning disable_possible_user_warnings rank_prefixed_message rank_zero_debug"
        " rank_zero_deprecation rank_zero_info rank_zero_only rank_zero_warn"
    ),
    "lx.rng": "isolate_rng reset_seed seed_everything worker_init_function",
    "lx.measures.sharing": "find_shared_parameters set_shared_parameters",
    "lx.measures.summary": "LayerSummary ModelSummary summarize",
    "lx.measures.throughput": "Throughput ThroughputMonitor",
    "lx.types": (
        "EVAL_DATALOADERS LRSchedulerConfig LRSchedulerConfigType LRSchedulerTypeUnion OptimizerConfig OptimizerLRScheduler"
        " OptimizerLRSchedulerConfig STEP_OUTPUT TRAIN_DATALOADERS"
    ),
}
_NAMES_OF_LIGHTNING = {
    "free_memory": "garbage_collection_cuda",
    "is_out_of_memory": "is_oom_error",
    "worker_init_function": "pl_worker_init_function",
}
_HOMES = {_NAMES_OF_LIGHTNING.get(name, name): (module, name) for module, names in _MODULES.items() for name in names.split()}

_SUBMODULES = {
    "apply_func": "apply_to_collection convert_tensors_to_scalars move_data_to_device",
    "combined_loader": "CombinedLoader",
    "compile": "from_compiled to_uncompiled",
    "data": "suggested_max_num_workers",
    "distributed": "is_shared_filesystem",
    "enums": "GradClipAlgorithmType LightningEnum",
    "exceptions": "MisconfigurationException SIGTERMException",
    "grads": "grad_norm",
    "memory": "garbage_collection_cuda is_oom_error",
    "model_summary": "LayerSummary ModelSummary summarize",
    "parameter_tying": "find_shared_parameters set_shared_parameters",
    "parsing": "AttributeDict is_picklable",
    "rank_zero": _MODULES["lx.rank_zero"],
    "seed": "isolate_rng pl_worker_init_function reset_seed seed_everything",
    "throughput": "Throughput ThroughputMonitor get_available_flops measure_flops",
    "types": _MODULES["lx.types"],
    "warnings": "PossibleUserWarning disable_possible_user_warnings",
}

__all__ = [
    "EVAL_DATALOADERS",
    "STEP_OUTPUT",
    "TRAIN_DATALOADERS",
    "AttributeDict",
    "CombinedLoader",
    "GradClipAlgorithmType",
    "LRSchedulerConfig",
    "LRSchedulerConfigType",
    "LRSchedulerTypeUnion",
    "LayerSummary",
    "LightningDeprecationWarning",
    "LightningEnum",
    "MisconfigurationException",
    "ModelSummary",
    "OptimizerConfig",
    "OptimizerLRScheduler",
    "OptimizerLRSchedulerConfig",
    "PossibleUserWarning",
    "SIGTERMException",
    "Throughput",
    "ThroughputMonitor",
    "apply_to_collection",
    "convert_tensors_to_scalars",
    "disable_possible_user_warnings",
    "find_shared_parameters",
    "from_compiled",
    "garbage_collection_cuda",
    "get_available_flops",
    "grad_norm",
    "is_oom_error",
    "is_picklable",
    "is_shared_filesystem",
    "isolate_rng",
    "measure_flops",
    "move_data_to_device",
    "pl_worker_init_function",
    "rank_prefixed_message",
    "rank_zero_debug",
    "rank_zero_deprecation",
    "rank_zero_info",
    "rank_zero_only",
    "rank_zero_warn",
    "reset_seed",
    "seed_everything",
    "set_shared_parameters",
    "suggested_max_num_workers",
    "summarize",
    "to_uncompiled",
]


class _Submodule(ModuleType):
    """A module without a file, whose names are some of those here."""

    def __init__(self, name: str, names: str) -> None:
        super().__init__(f"{__name__}.{name}", f"Some of the names of `{__name__}`, where Lightning has them.")
        self.__all__ = sorted(names.split())

    def __getattr__(self, name: str) -> Any:
        return _found(name, self.__name__, self.__all__)

    def __dir__(self) -> list[str]:
        return self.__all__


def _found(name: str, module: str, names: list[str]) -> Any:
    if name not in names:
        nearest = get_close_matches(name, names, n=1)
        meant = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise AttributeError(f"module {module!r} has no attribute {name!r}.{meant}")
    home, original = _HOMES[name]
    return getattr(import_module(home), original)


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return sys.modules[f"{__name__}.{name}"]
    return _found(name, __name__, __all__)


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBMODULES])


# The import system looks for `lx.utilities.seed` here once it has imported `lx.utilities`, as it does for `os.path`.
sys.modules.update({f"{__name__}.{name}": _Submodule(name, names) for name, names in _SUBMODULES.items()})
