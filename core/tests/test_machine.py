"""Whether processes share files, and how many workers a machine bears."""

import os

import pytest

from lx.measures.machine import is_shared_filesystem, suggested_max_num_workers
from lx.testing.fakes import FakeStrategy


class Remembering(FakeStrategy):
    """Writes down what rank 0 broadcasts; on another rank it hands that out, in order."""

    def __init__(self, said, rank=0):
        super().__init__(2, rank)
        self.said = said

    def broadcast(self, obj, src=0):
        if self.global_rank == 0:
            self.said.append(obj)
            return obj
        return self.said.pop(0)


def test_one_process_and_remote_paths_share(tmp_path):
    assert is_shared_filesystem(FakeStrategy(), tmp_path / "absent")
    assert is_shared_filesystem(FakeStrategy(2), "s3://bucket/folder")
    assert list(tmp_path.iterdir()) == []


def test_rank_zero_writes_and_cleans_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    strategy = Remembering([])
    assert is_shared_filesystem(strategy)
    assert list(tmp_path.iterdir()) == []
    assert strategy.called("barrier")


def test_another_rank_looks_for_the_file(tmp_path):
    said = []
    is_shared_filesystem(Remembering(said), tmp_path)
    probe = tmp_path / said[1]
    assert not is_shared_filesystem(Remembering(list(said), rank=1), tmp_path, timeout=0), "the file of rank 0 is gone already"
    probe.touch()
    assert is_shared_filesystem(Remembering(list(said), rank=1), tmp_path, timeout=0)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="folders that exist"):
        is_shared_filesystem(FakeStrategy(2), tmp_path / "absent")


def test_a_folder_that_cannot_be_written_to_is_not_shared(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    assert not is_shared_filesystem(FakeStrategy(2), tmp_path, timeout=0)


@pytest.mark.parametrize(("processes", "workers"), [(1, 15), (2, 7), (3, 4), (4, 3), (8, 1), (16, 1), (17, 1)])
def test_workers_share_the_cores(processes, workers, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    assert suggested_max_num_workers(processes) == workers


def test_cores_where_the_system_tells_their_number_alone(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert suggested_max_num_workers(2) == 3


@pytest.mark.parametrize("processes", [0, -1])
def test_there_is_a_process(processes):
    with pytest.raises(ValueError, match=f"local_world_size={processes}"):
        suggested_max_num_workers(processes)
