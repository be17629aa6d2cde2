"""The environment of SLURM: what it reads and refuses, and when it is detected."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lx import Trainer
from lx.kernel import PluginManager
from lx.kernel.errors import MisconfigurationException
from lx_plugin_slurm.environment import SLURMEnvironment, warn_of_srun
from lx_plugin_slurm.node_list import first_host

TOLD = {
    "SLURM_JOB_ID": "1234567",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "6",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "3",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
    "SLURM_NODELIST": "gpu[07-09]",
    "SLURM_STEP_ID": "0",
}


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "MASTER_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", str(tmp_path))
    warn_of_srun.cache_clear()
    yield
    warn_of_srun.cache_clear()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in TOLD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def srun(tmp_path: Path) -> None:
    """A program of that name on the PATH."""
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)


@pytest.mark.parametrize(
    ("variables", "detected"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "1"}, True),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train"}, True),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "bash"}, False),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "interactive"}, False),
        ({"SLURM_JOB_ID": "3"}, False),
    ],
)
def test_when_it_is_detected(variables: dict[str, str], detected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert SLURMEnvironment.detect() is detected


def test_a_trainer_takes_it_by_itself(told: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "1", "SLURM_PROCID": "0"}.items():
        told.setenv(name, value)
    quiet = dict.fromkeys(["logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"], False)
    trainer = Trainer(accelerator="cpu", **quiet)  # type: ignore[arg-type]
    assert isinstance(trainer.strategy.cluster_environment, SLURMEnvironment)
    told.setenv("SLURM_NNODES", "3")
    with pytest.raises(ValueError, match="num_nodes=1, and the SLURM job has --nodes=3"):
        Trainer(accelerator="cpu", **quiet)  # type: ignore[arg-type]


def test_it_is_found_by_name_and_comes_after_torchrun() -> None:
    registry = PluginManager().registry
    order = [entry.name for entry in registry.environment.standing_for("detect")]
    assert "slurm" in order
    assert "torchelastic" not in order or order.index("torchelastic") < order.index("slurm")
    built = registry.environment.build("slurm(auto_requeue=False)")
    assert (type(built), built.auto_requeue) == (SLURMEnvironment, False)


def test_it_tells_what_slurm_says(told: pytest.MonkeyPatch) -> None:
    environment = SLURMEnvironment()
    environment.set_world_size(100)
    environment.set_global_rank(100)
    assert (environment.world_size(), environment.global_rank(), environment.local_rank(), environment.node_rank()) == (6, 5, 1, 2)
    assert (environment.main_address, environment.main_port) == ("gpu07", 19567)
    assert (environment.job_id(), environment.job_name()) == (1234567, "train")
    assert environment.creates_processes_externally
    assert environment.requeues
    told.setenv("SLURM_JOB_NAME", "bash")
    assert environment.job_id() is None


@pytest.mark.parametrize("name", ["world_size", "global_rank", "local_rank", "node_rank"])
def test_variables_that_are_missing_or_no_numbers(name: str, told: pytest.MonkeyPatch) -> None:
    variable = {"world_size": "SLURM_NTASKS", "global_rank": "SLURM_PROCID", "local_rank": "SLURM_LOCALID", "node_rank": "SLURM_NODEID"}[
        name
    ]
    told.setenv(variable, "many")
    with pytest.raises(MisconfigurationException, match=f"{variable} is 'many', and SLURM sets it to a number"):
        getattr(SLURMEnvironment(), name)()
    told.delenv(variable)
    with pytest.raises(MisconfigurationException, match=f"{variable} is not set"):
        getattr(SLURMEnvironment(), name)()


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("alpha", "alpha"),
        ("alpha,beta", "alpha"),
        ("alpha beta", "alpha"),
        ("10.0.0.1", "10.0.0.1"),
        ("host[22]", "host22"),
        ("host[1-3]", "host1"),
        ("host[07-09],other", "host07"),
        ("host[5-9,1]", "host5"),
        ("host[1,5-9],other[2-3]", "host1"),
        ("n[1-2]-ib", "n1-ib"),
        ("rack[1-2]n[03-04],x", "rack1n03"),
        ("other,host[1-3]", "other"),
    ],
)
def test_the_first_host_of_a_node_list(nodes: str, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_host(nodes) == first
    monkeypatch.setenv("SLURM_NODELIST", nodes)
    assert SLURMEnvironment().main_address == first


@pytest.mark.parametrize("nodes", [",", "host[", "host[]", "[a-b]"])
def test_a_node_list_that_cannot_be_read(nodes: str) -> None:
    with pytest.raises(MisconfigurationException, match="set MASTER_ADDR to the host of rank 0"):
        first_host(nodes)


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, "127.0.0.1"),
        ({"SLURM_NODELIST": ""}, "127.0.0.1"),
        ({"SLURM_JOB_NODELIST": "b[2-3]"}, "b2"),
        ({"SLURM_JOB_NODELIST": "b", "SLURM_NODELIST": "a"}, "a"),
        ({"MASTER_ADDR": "head-ib", "SLURM_NODELIST": "a"}, "head-ib"),
    ],
)
def test_where_processes_meet(variables: dict[str, str], address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert SLURMEnvironment().main_address == address


@pytest.mark.parametrize(
    ("variables", "port"),
    [
        ({}, 12910),
        ({"SLURM_JOB_ID": "12"}, 15012),
        ({"SLURM_JOB_ID": "1230042"}, 15042),
        ({"SLURM_JOB_ID": "99999"}, 24999),
        ({"SLURM_JOB_ID": "12", "SLURM_JOB_NAME": "bash"}, 12910),
        ({"SLURM_JOB_ID": "12", "MASTER_PORT": "99"}, 99),
    ],
)
def test_the_port_of_rank_0(variables: dict[str, str], port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert SLURMEnvironment().main_port == port


@pytest.mark.parametrize(
    ("variables", "devices", "nodes", "refused"),
    [
        ({}, 2, 3, None),
        ({"SLURM_NTASKS": "1"}, 1, 1, None),
        (TOLD, 2, 3, None),
        (TOLD, 1, 3, "devices=1, and the SLURM job has --ntasks-per-node=2"),
        (TOLD, 2, 1, "num_nodes=1, and the SLURM job has --nodes=3"),
        ({**TOLD, "SLURM_JOB_NAME": "interactive"}, 1, 1, None),
    ],
)
def test_the_job_must_be_what_the_trainer_is_told(
    variables: dict[str, str], devices: int, nodes: int, refused: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    environment = SLURMEnvironment()
    if refused is None:
        environment.validate_settings(num_devices=devices, num_nodes=nodes)
        return
    with pytest.raises(ValueError, match=refused):
        environment.validate_settings(num_devices=devices, num_nodes=nodes)


def test_tasks_without_their_number_on_a_node(told: pytest.MonkeyPatch) -> None:
    told.delenv("SLURM_NTASKS_PER_NODE")
    with pytest.raises(RuntimeError, match=r"6 tasks .* give --ntasks-per-node=2 and --nodes=3 instead of --ntasks"):
        SLURMEnvironment().validate_settings(num_devices=2, num_nodes=3)


@pytest.mark.usefixtures("srun")
def test_srun_that_is_not_used_is_warned_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="srun is there, and did not start this program.*srun python") as warned:
        assert [SLURMEnvironment.detect() for _ in range(2)] == [False, False]
    assert len(warned) == 1
    warn_of_srun.cache_clear()
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")
    assert not SLURMEnvironment.detect(), "somebody types here, and is not warned"


@pytest.mark.usefixtures("srun")
def test_a_batch_script_that_leaves_out_srun_is_warned_that_it_will_wait(told: pytest.MonkeyPatch) -> None:
    SLURMEnvironment().validate_settings(num_devices=2, num_nodes=3)
    told.delenv("SLURM_STEP_ID")
    with pytest.warns(UserWarning, match="6 tasks, and this process was not started by srun: it will wait for the others"):
        SLURMEnvironment().validate_settings(num_devices=2, num_nodes=3)


def test_the_signal() -> None:
    assert (SLURMEnvironment().requeue_signal, SLURMEnvironment().requeues_on) == (signal.SIGUSR1, signal.SIGUSR1)
    assert SLURMEnvironment(requeue_signal=signal.SIGHUP).requeues_on == signal.SIGHUP
    assert SLURMEnvironment(auto_requeue=False).requeues_on is None


@pytest.mark.parametrize("given", [signal.SIGKILL, signal.SIGINT, 0, 1000, "SIGUSR1"])
def test_signals_that_cannot_be_heeded(given: int) -> None:
    with pytest.raises(MisconfigurationException, match="it must be a signal that a program may heed"):
        SLURMEnvironment(requeue_signal=given)
