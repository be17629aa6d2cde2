"""A plugin of somebody else: a folder outside of this repository, installed by pip, and chosen by a string."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

FILES = {
    "pyproject.toml": """
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"

        [project]
        name = "acme-echo"
        version = "1.4"
        description = "A strategy for lx that says what it does."
        requires-python = ">=3.11"
        dependencies = ["lx-core>=0.1", "pluggy>=1.5"]

        [project.entry-points."lx.plugins"]
        acme-echo = "acme_echo"
    """,
    "src/acme_echo/__init__.py": '''
        """A strategy for lx that says what it does."""

        from lx.kernel import hookimpl

        lx_api = 1


        @hookimpl
        def lx_register(registry):
            registry.strategy.add("acme_echo", "acme_echo.strategy:EchoStrategy", summary="says what it does")


        @hookimpl
        def lx_cli_commands(cli):
            cli.add_command("echo", lambda arguments: print("echo:", *arguments), help="says what it is told")
    ''',
    "src/acme_echo/strategy.py": '''
        """The strategy."""

        from lx.strategies import SingleDeviceStrategy


        class EchoStrategy(SingleDeviceStrategy):
            """One device, and a word with each reduction."""

            def __init__(self, word: str = "hello"):
                super().__init__()
                self.word = word

            def setup_module(self, module):
                print(f"{self.word}: setup_module", flush=True)
                return super().setup_module(module)
    ''',
    "tests/test_echo.py": '''
        """The conformance suite that lx ships, as a plugin author uses it."""

        from lx.testing.conformance.strategy import StrategyConformance


        class TestEcho(StrategyConformance):
            component = "acme_echo(word='hallo')"
    ''',
    "train.py": '''
        """A user's program: nothing in it but a string says which strategy is meant."""

        import sys

        from lx import Trainer
        from lx.strategies import EchoStrategy
        from lx.testing import TinyDataModule, TinyModule

        trainer = Trainer(strategy=sys.argv[1], accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False,
                          enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1)
        assert type(trainer.strategy) is EchoStrategy
        trainer.fit(TinyModule(), TinyDataModule())
        print("steps", trainer.global_step)
        trainer.explain()
    ''',
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin's own folder, written as its author would."""
    root = tmp_path_factory.mktemp("somewhere-else") / "acme-echo"
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(content).lstrip(), "utf-8")
    return root


@pytest.fixture(scope="module")
def site(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages with the plugin in it, put there by pip."""
    target = tmp_path_factory.mktemp("site-packages")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
    ]
    done = subprocess.run([*pip, "--target", str(target), str(project)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (target / "acme_echo" / "strategy.py").exists()
    return target


def run(site: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environ, capture_output=True, text=True, check=False)


def test_it_trains(site: Path, project: Path, tmp_path: Path) -> None:
    done = run(site, "-W", "error", str(project / "train.py"), "Acme-Echo@acme-echo(word='moin')", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines.index("moin: setup_module") < lines.index("steps 8")
    (row,) = [line for line in lines if line.startswith("strategy ")]
    assert row.split()[1:3] == ["acme_echo", "acme-echo"]


def test_it_is_listed_and_shown(site: Path, tmp_path: Path) -> None:
    done = run(site, "-m", "lx.cli", "plugins", folder=tmp_path)
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("acme-echo ")]
    assert row.split()[1:] == ["1.4", "active", "strategy:", "acme_echo"]
    shown = run(site, "-m", "lx.cli", "plugins", "show", "acme_echo", folder=tmp_path).stdout
    assert "acme-echo 1.4" in shown
    assert "    word: str = 'hello'" in shown
    assert run(site, "-m", "lx.cli", "echo", "a", "b", folder=tmp_path).stdout == "echo: a b\n"


def test_it_passes_the_conformance_suite(site: Path, project: Path) -> None:
    done = run(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "tests", folder=project)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_mistakes_in_its_name_and_arguments_are_helped_with(site: Path, tmp_path: Path) -> None:
    code = """
        from lx import Trainer
        from lx.kernel.errors import ComponentError

        for strategy in ("acme_ecko", "acme_echo(wrod='x')"):
            try:
                Trainer(strategy=strategy, accelerator="cpu")
            except ComponentError as error:
                print(f"{type(error).__name__}: {error}")
    """
    done = run(site, "-c", dedent(code), folder=tmp_path)
    unknown, wrong = done.stdout.splitlines()
    assert unknown.startswith("UnknownComponentError: there is no strategy 'acme_ecko'. Did you mean 'acme_echo'? Installed: ")
    assert wrong == (
        "ComponentArgumentError: the strategy 'acme_echo': got an unexpected keyword argument 'wrod'. "
        "Did you mean 'word'? It accepts: word."
    )
