"""Nothing but lx-core installed, and every kind of broken plugin beside the others: all else goes on working."""

import os
import subprocess
import sys
import venv
from pathlib import Path
from textwrap import dedent

import pytest
from importlib_metadata import distributions

from broken_plugins import KINDS
from lx import Trainer
from lx.kernel import default_manager
from lx.kernel.errors import BlockedError, CollisionError, NotInstalledError
from lx.testing import TinyDataModule, TinyModule
from lx.testing.fixtures import Distributions, make_distribution

__all__ = ["make_distribution"]  # a fixture


def train(folder: Path, **options: object) -> Trainer:
    """A run with everything that is installed."""
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, default_root_dir=str(folder), enable_progress_bar=False, log_every_n_steps=1, **options
    )
    trainer.fit(TinyModule(), TinyDataModule())
    return trainer


# -- lx-core alone -----------------------------------------------------------------------------------------------------------


def test_with_every_plugin_kept_out_a_trainer_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LX_PLUGINS", "")
    default_manager.cache_clear()
    with pytest.raises(NotInstalledError, match=r"nothing that is active provides the accelerator") as caught:
        Trainer()
    assert "LX_PLUGINS" in str(caught.value)
    with pytest.raises(BlockedError, match="LX_PLUGINS does not name 'csv'"):
        from lx.loggers import CSVLogger  # noqa: F401


@pytest.fixture(scope="module")
def core_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with all that is installed here but the plugins, by links: torch is not copied."""
    root = tmp_path_factory.mktemp("core-alone")
    venv.create(root, symlinks=True, with_pip=False)
    site = next(root.glob("lib/python*/site-packages"))
    installed = [distribution for distribution in distributions() if distribution.locate_file("") is not None]
    left_out: set[str] = set()
    for distribution in installed:
        if distribution.name.startswith("lx-") and distribution.name != "lx-core":
            left_out |= {file.parts[0] for file in distribution.files or ()}
    for folder in {str(distribution.locate_file("")) for distribution in installed} - {""}:
        for entry in Path(folder).iterdir():
            if entry.name not in left_out and not (site / entry.name).exists():
                (site / entry.name).symlink_to(entry)
    return root / "bin" / "python"


def alone(python: Path, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("LX_", "PYTHON"))}
    return subprocess.run(
        [str(python), "-W", "error", "-c", dedent(code)], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )


def test_with_lx_core_alone_import_works_and_a_trainer_says_what_to_install(core_alone: Path, tmp_path: Path) -> None:
    code = """
        import sys
        import lx
        assert "torch" not in sys.modules
        assert [plugin.slug for plugin in lx.registry.diagnosis.survey()] == ["core"], lx.registry.diagnosis.plugins
        from lx.kernel.errors import NotInstalledError
        def tell(ask):
            try:
                ask()
            except NotInstalledError as error:
                print(f"{type(error).__name__}: {error}")
        tell(lambda: lx.Trainer())
        tell(lambda: lx.Trainer(accelerator="cpu"))
        tell(lambda: lx.registry.callback.build("early_stopping(monitor='val_loss')"))
        tell(lambda: lx.callbacks.EarlyStopping)
        class Model(lx.LightningModule): ...
        print(lx.registry.precision.names(), Model.__name__, lx.__version__)
    """
    done = alone(core_alone, code, tmp_path)
    assert done.returncode == 0, done.stderr
    default, named, built, imported, rest = done.stdout.splitlines()
    assert "`pip install lx-standard` installs the standard set" in default
    assert "the accelerator 'cpu' comes with a plugin that is not installed: `pip install lx-plugin-cpu`" in named
    assert "`pip install lx-plugin-early-stopping`" in built
    assert "`pip install lx-plugin-early-stopping`" in imported
    assert rest.startswith("['32-true'] Model ")
    listed = alone(core_alone, "from lx.cli import main; main(['plugins'])", tmp_path)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["PLUGIN", "core"]
    assert list(tmp_path.iterdir()) == []


# -- some broken; each by itself is in tests/reliability/test_named_errors.py ------------------------------------------------------


def test_a_duplicate_name_is_refused_when_it_is_meant_and_chosen_when_it_is_qualified(
    make_distribution: Distributions, tmp_path: Path
) -> None:
    source = KINDS["name of another distribution"].entry
    make_distribution("acme-broken", {"broken_plugin.py": source}, plugins={"broken": "broken_plugin"})
    default_manager.cache_clear()
    with pytest.raises(CollisionError, match=r"the logger 'csv' is offered by 'acme-broken' and 'lx-plugin-csv'\. .*'csv@lx-plugin-csv'"):
        Trainer(accelerator="cpu", logger="csv")
    trainer = train(tmp_path, logger="csv@lx-plugin-csv")
    assert type(trainer.logger).__module__.startswith("lx_plugin_csv")
    assert list(tmp_path.rglob("metrics.csv"))


def test_with_all_of_them_at_once_a_program_of_its_own_trains(make_distribution: Distributions, tmp_path: Path) -> None:
    for number, kind in enumerate(KINDS.values()):
        module = f"broken_plugin_{number}"
        requires, source = kind.requires, kind.entry.replace("broken_part", f"part_{number}").replace("broken-part", f"part-{number}")
        make_distribution(f"acme-broken-{number}", {f"{module}.py": ""}, plugins={f"broken-{number}": module}, requires=requires)
        (make_distribution.folders[-1] / f"{module}.py").write_text(source, "utf-8")
    code = """
        from lx import Trainer
        from lx.testing import TinyDataModule, TinyModule
        trainer = Trainer(accelerator="cpu", max_epochs=1, default_root_dir="runs", enable_progress_bar=False, log_every_n_steps=1)
        trainer.fit(TinyModule(), TinyDataModule())
        print("steps", trainer.global_step)
    """
    environ = {**os.environ, "PYTHONPATH": make_distribution.path}
    command = [sys.executable, "-W", "error", "-c", dedent(code)]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "steps 4" in done.stdout.splitlines()
