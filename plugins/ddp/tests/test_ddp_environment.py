"""The environment of local processes: what it reads, and what it refuses."""

import socket

import pytest

from lx.interfaces import ClusterEnvironment
from lx.kernel import PluginManager
from lx_plugin_ddp.environment import LightningEnvironment

VARIABLES = ("LOCAL_RANK", "RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "STANDALONE_PORT")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_it_is_the_default_environment() -> None:
    registry = PluginManager().registry
    assert registry.environment.standing_for("default")[0].name == "local"
    for name in ("local", "lightning", "Lightning"):
        assert type(registry.environment.build(name)) is LightningEnvironment
    assert registry.environment.by_class("LightningEnvironment") is LightningEnvironment
    assert LightningEnvironment.detect()


def test_without_variables_this_is_the_only_process() -> None:
    environment = LightningEnvironment()
    assert isinstance(environment, ClusterEnvironment)
    assert not environment.creates_processes_externally
    assert (environment.world_size(), environment.global_rank(), environment.local_rank(), environment.node_rank()) == (1, 0, 0, 0)
    assert environment.main_address == "127.0.0.1"
    environment.set_world_size(4)
    environment.set_global_rank(3)
    assert (environment.world_size(), environment.global_rank()) == (4, 3)
    environment.teardown()


def test_the_port_is_free_and_stays() -> None:
    environment = LightningEnvironment()
    port = environment.main_port
    assert environment.main_port == port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


def test_what_a_launched_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"LOCAL_RANK": "1", "WORLD_SIZE": "6", "GROUP_RANK": "2", "MASTER_ADDR": "node-0", "STANDALONE_PORT": "1234"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    environment = LightningEnvironment()
    assert environment.creates_processes_externally
    assert (environment.local_rank(), environment.node_rank(), environment.main_address, environment.main_port) == (1, 2, "node-0", 1234)
    environment.set_world_size(2)
    assert environment.world_size() == 6  # what was started counts, so that the strategy can tell a difference
    monkeypatch.setenv("NODE_RANK", "1")
    monkeypatch.setenv("MASTER_PORT", "4321")
    assert (environment.node_rank(), environment.main_port) == (1, 4321)


def test_a_world_size_of_nobody_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "6")
    environment = LightningEnvironment()
    environment.set_world_size(2)
    assert environment.world_size() == 2


def test_a_rank_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "first")
    with pytest.raises(ValueError, match="LOCAL_RANK must be an integer, not 'first'"):
        LightningEnvironment().local_rank()


def test_several_nodes_must_know_where_to_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = LightningEnvironment()
    environment.validate_settings(num_devices=8, num_nodes=1)
    with pytest.raises(ValueError, match=r"num_nodes=2.*set NODE_RANK, MASTER_ADDR, MASTER_PORT in"):
        environment.validate_settings(num_devices=8, num_nodes=2)
    monkeypatch.setenv("GROUP_RANK", "1")
    monkeypatch.setenv("MASTER_ADDR", "node-0")
    with pytest.raises(ValueError, match="set MASTER_PORT in"):
        environment.validate_settings(num_devices=8, num_nodes=2)
    monkeypatch.setenv("MASTER_PORT", "4321")
    environment.validate_settings(num_devices=8, num_nodes=2)
    monkeypatch.setenv("NODE_RANK", "2")
    with pytest.raises(ValueError, match=r"NODE_RANK=2: num_nodes=2 has the ranks 0 to 1\."):
        environment.validate_settings(num_devices=8, num_nodes=2)
