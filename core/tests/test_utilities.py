"""`lx.utilities`: every name resolves, where Lightning has it too, and nothing is imported before."""

import importlib
import inspect
import subprocess
import sys

import pytest

import lx
import lx.utilities

SUBMODULES = [name for name in dir(lx.utilities) if name not in lx.utilities.__all__]


def test_the_names_are_sorted_and_resolve():
    assert dir(lx.utilities) == sorted(dir(lx.utilities))
    for name in lx.utilities.__all__:
        value = getattr(lx.utilities, name)
        assert value is not None
        assert not inspect.isroutine(value) or inspect.getdoc(value), f"{name} has no docstring"


@pytest.mark.parametrize("name", SUBMODULES)
def test_names_are_where_lightning_has_them(name):
    module = importlib.import_module(f"lx.utilities.{name}")
    assert module is getattr(lx.utilities, name)
    assert dir(module) == module.__all__
    assert all(getattr(module, one) is getattr(lx.utilities, one) for one in module.__all__)
    assert module.__doc__


def test_every_name_that_type_checkers_see_is_offered():
    source = inspect.getsource(lx.utilities)
    block = source[source.index("if TYPE_CHECKING") : source.index("_MODULES = ")]
    namespace: dict[str, object] = {"TYPE_CHECKING": True}
    exec(block, namespace)
    seen = {name for name in namespace if name not in ("TYPE_CHECKING", "__builtins__")}
    assert seen == set(lx.utilities.__all__)
    assert all(namespace[name] is getattr(lx.utilities, name) for name in seen)


def test_statements_that_programs_have_work():
    from lx import seed_everything
    from lx.utilities import grad_norm, rank_zero
    from lx.utilities.model_summary import ModelSummary
    from lx.utilities.seed import seed_everything as same
    from lx.utilities.types import STEP_OUTPUT

    assert same is seed_everything
    assert rank_zero.rank_zero_only.rank == 0
    assert (grad_norm.__module__, ModelSummary.__module__) == ("lx.measures.gradients", "lx.measures.summary")
    assert STEP_OUTPUT is not None


@pytest.mark.parametrize(
    ("module", "name", "message"),
    [
        ("lx.utilities", "grad_nrm", r"module 'lx.utilities' has no attribute 'grad_nrm'\. Did you mean 'grad_norm'\?"),
        ("lx.utilities", "fly", r"module 'lx.utilities' has no attribute 'fly'\.$"),
        ("lx.utilities.seed", "seed_everthing", r"Did you mean 'seed_everything'\?"),
        ("lx.utilities.seed", "grad_norm", "module 'lx.utilities.seed' has no attribute 'grad_norm'"),
    ],
)
def test_another_name_has_a_nearest_one(module, name, message):
    with pytest.raises(AttributeError, match=message):
        getattr(importlib.import_module(module), name)


def test_another_module_is_not_there():
    with pytest.raises(ModuleNotFoundError, match=r"lx\.utilities\.nothing"):
        importlib.import_module("lx.utilities.nothing")


@pytest.mark.parametrize("module", ["lx.utilities", "lx.utilities.seed", "lx.demos"])
def test_importing_it_imports_no_torch(module):
    code = f"import sys, {module}; print(*(name for name in ('torch', 'lx.kernel', 'lx.rank_zero') if name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
