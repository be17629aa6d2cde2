"""Who may import whom: the layers of the engine, no cycle anywhere, and no plugin that leans on another one in secret."""

from checkout import FLOOR, plugins, requirement_name
from layers import LAYERS
from source_tree import imports, type_checking_only


def rank(module):
    """The place in `LAYERS` of a module of lx-core or of the package that it lies in; None if it has none."""
    listed = {name: place for place, layer in enumerate(LAYERS) for name in layer}
    while module not in listed and module.count(".") > 1:
        module = module.rpartition(".")[0]
    return listed.get(module)


def misplaced(sources):
    """Modules of lx-core that have no layer."""
    return [source.module for source in sources if rank(source.module) is None]


def upward(sources):
    """One line for each import from a higher layer, also of one for types alone."""
    modules = {source.module for source in sources}
    found = []
    for source in sources:
        for target, node in imports(source, modules):
            line = f"{source.at(node)} imports {target}, which lies in a higher layer"
            if (rank(target) or 0) > (rank(source.module) or 0) and line not in found:
                found.append(line)
    return found


def cycles(sources):
    """The groups of modules that import each other at run time, deferred imports counted, those for types alone not."""
    modules = {source.module for source in sources}
    graph = {
        source.module: {target for target, node in imports(source, modules) if not type_checking_only(node)} - {source.module}
        for source in sources
    }
    reach = {module: _reachable(graph, module) for module in graph}
    knots = {frozenset(other for other in reach[module] if module in reach[other]) for module in graph if module in reach[module]}
    return sorted(sorted(knot) for knot in knots)


def _reachable(graph, start):
    seen, queue = set(), list(graph[start])
    while queue:
        module = queue.pop()
        if module not in seen:
            seen.add(module)
            queue.extend(graph[module])
    return seen


def hidden_dependencies(sources, known):
    """One line for each import of a plugin by a distribution that does not require it."""
    owners = {plugin.module: plugin for plugin in known.values()}
    modules = {source.module for source in sources}
    found = []
    for source in sources:
        own = source.module.partition(".")[0]
        allowed = {requirement_name(need) for need in owners[own].requires} if own in owners else set()
        for target, node in imports(source, modules):
            plugin = owners.get(target.partition(".")[0])
            if plugin is not None and plugin.module != own and plugin.name not in allowed:
                found.append(f"{source.at(node)} imports {target}, and {own} does not require {plugin.name}")
    return found


def core_of(sources):
    return [source for source in sources if source.module.partition(".")[0] == "lx"]


def test_every_module_has_a_layer(sources):
    assert misplaced(core_of(sources)) == []


def test_every_listed_module_exists(sources):
    assert {name for layer in LAYERS for name in layer} - {source.module for source in sources} == set()


def test_imports_point_down(sources):
    found = upward(core_of(sources))
    assert not found, "\n".join(found)


def test_there_is_no_import_cycle(sources):
    assert cycles(sources) == []


def test_no_plugin_is_imported_in_secret(sources):
    found = hidden_dependencies(sources, plugins())
    assert not found, "\n".join(found)


def test_the_floor_is_there():
    assert set(FLOOR) <= set(plugins())


def test_the_check_sees_an_upward_import_also_for_types(sample):
    bad = sample(
        {
            "core/src/lx/kernel/a.py": "def f():\n    from lx.trainer import Trainer\n",
            "core/src/lx/kernel/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lx import trainer\n",
            "core/src/lx/kernel/c.py": "import lx\n",
            "core/src/lx/__init__.py": "from lx.trainer import Trainer\n",
            "core/src/lx/cli/__init__.py": "import lx\n",
            "core/src/lx/trainer.py": "import lx.kernel.b\n",
            "core/src/lx/newcomer.py": "",
        }
    )
    found = "\n".join(upward(bad))
    assert "a.py:2 imports lx.trainer" in found
    assert "b.py:3 imports lx.trainer" in found
    assert "c.py:1 imports lx, which" in found
    assert len(found.splitlines()) == 3
    assert misplaced(bad) == ["lx.newcomer"]


def test_the_check_sees_a_deferred_cycle(sample):
    bad = sample(
        {
            "core/src/lx/loops/a.py": "from lx.loops import b\n",
            "core/src/lx/loops/b.py": "def f():\n    import importlib\n    importlib.import_module('lx.loops.c')\n",
            "core/src/lx/loops/c.py": "def f():\n    from . import a\n",
            "core/src/lx/loops/d.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lx.loops import e\n",
            "core/src/lx/loops/e.py": "from lx.loops import d\n",
        }
    )
    assert cycles(bad) == [["lx.loops.a", "lx.loops.b", "lx.loops.c"]]


def test_the_check_sees_a_hidden_dependency(sample):
    known = plugins()
    first, second = list(known.values())[:2]
    bad = sample(
        {
            f"plugins/{first.slug}/src/{first.module}/logger.py": f"import {second.module}.callback\n",
            f"plugins/{second.slug}/src/{second.module}/callback.py": "",
            "core/src/lx/loops/fit.py": f"from {first.module} import logger\n",
        }
    )
    found = "\n".join(hidden_dependencies(bad, known))
    assert f"does not require {second.name}" in found
    assert f"lx does not require {first.name}" in found
