"""The environment of torchrun: what it reads and refuses, and that torchrun really sets it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lx.kernel import PluginManager
from lx.kernel.errors import MisconfigurationException
from lx_plugin_torchelastic.environment import TorchElasticEnvironment

TOLD = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "5",
    "LOCAL_RANK": "1",
    "GROUP_RANK": "2",
    "WORLD_SIZE": "6",
    "MASTER_ADDR": "node-0",
    "MASTER_PORT": "4321",
}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in TOLD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_it_is_detected_before_others(told: pytest.MonkeyPatch) -> None:
    registry = PluginManager().registry
    assert registry.environment.standing_for("detect")[0].name == "torchelastic"
    assert type(registry.environment.build("torchelastic")) is TorchElasticEnvironment
    assert TorchElasticEnvironment.detect()
    told.delenv("TORCHELASTIC_RUN_ID")
    assert not TorchElasticEnvironment.detect()


def test_it_tells_what_torchrun_says(told: pytest.MonkeyPatch) -> None:
    environment = TorchElasticEnvironment()
    environment.set_world_size(100)
    environment.set_global_rank(100)
    assert (environment.world_size(), environment.global_rank(), environment.local_rank(), environment.node_rank()) == (6, 5, 1, 2)
    assert (environment.main_address, environment.main_port) == ("node-0", 4321)
    assert environment.creates_processes_externally
    told.delenv("GROUP_RANK")
    assert environment.node_rank() == 0


def test_the_number_of_processes_must_fit(told: pytest.MonkeyPatch) -> None:
    environment = TorchElasticEnvironment()
    environment.validate_settings(num_devices=2, num_nodes=3)
    with pytest.raises(ValueError, match="torchrun started 6 processes, and devices=2 on num_nodes=1 ask for 2"):
        environment.validate_settings(num_devices=2, num_nodes=1)


def test_without_a_place_to_meet_it_warns(told: pytest.MonkeyPatch) -> None:
    told.delenv("MASTER_ADDR")
    told.delenv("MASTER_PORT")
    with pytest.warns(UserWarning, match="MASTER_ADDR is not set"):
        assert TorchElasticEnvironment().main_address == "127.0.0.1"
    with pytest.warns(UserWarning, match="MASTER_PORT is not set"):
        assert TorchElasticEnvironment().main_port == 12910


def test_variables_that_are_missing_or_no_numbers(told: pytest.MonkeyPatch) -> None:
    told.delenv("RANK")
    with pytest.raises(MisconfigurationException, match="RANK is not set, and torchrun sets it"):
        TorchElasticEnvironment().global_rank()
    told.setenv("WORLD_SIZE", "many")
    with pytest.raises(MisconfigurationException, match="WORLD_SIZE is 'many'"):
        TorchElasticEnvironment().world_size()


def test_torchrun_is_understood(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("""
import os
import torch.distributed as dist
from lx_plugin_torchelastic.environment import TorchElasticEnvironment

environment = TorchElasticEnvironment()
assert environment.detect() and dist.is_torchelastic_launched()
environment.validate_settings(num_devices=2, num_nodes=1)
where = (environment.global_rank(), environment.local_rank(), environment.node_rank(), environment.world_size())
os.write(1, f"{where} {environment.main_port == int(os.environ['MASTER_PORT'])}\\n".encode())
""")
    environ = {name: value for name, value in os.environ.items() if name not in TOLD}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(program)],
        env={**environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["(0, 0, 0, 2) True", "(1, 1, 0, 2) True"]
