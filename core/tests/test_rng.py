"""Seeds: which are accepted, where they are kept, and what they reach."""

import logging
import random

import numpy as np
import pytest
import torch

from lx import seed_everything
from lx.rng import MAX_SEED, isolate_rng, reset_seed, worker_init_function

SEED, WORKERS = "PL_GLOBAL_SEED", "PL_SEED_WORKERS"


@pytest.fixture(autouse=True)
def unseeded(monkeypatch):
    """Neither the environment nor a generator is changed by a test."""
    for name in (SEED, WORKERS):
        monkeypatch.setenv(name, "0")  # so that it is put back
        monkeypatch.delenv(name)
    with isolate_rng():
        yield


def drawn():
    return random.random(), float(np.random.rand()), float(torch.rand(1))


@pytest.mark.parametrize(("given", "seed"), [(0, 0), (42, 42), (MAX_SEED, MAX_SEED), ("7", 7), (np.int64(3), 3), (torch.tensor(4), 4)])
def test_whole_numbers_are_seeds(given, seed, monkeypatch):
    import os

    assert seed_everything(given, verbose=False) == seed
    assert (os.environ[SEED], os.environ[WORKERS]) == (str(seed), "0")
    seed_everything(given, workers=True, verbose=False)
    assert os.environ[WORKERS] == "1"


@pytest.mark.parametrize("given", [True, False, -1, MAX_SEED + 1, 1.5, "1.5", "x", torch.tensor(0.5), [1]])
def test_all_else_is_refused(given):
    import os

    with pytest.raises(ValueError, match=rf"seed=.*a seed is an integer from 0 to {MAX_SEED}"):
        seed_everything(given)
    assert SEED not in os.environ


def test_without_a_seed_that_of_the_environment_counts(monkeypatch):
    monkeypatch.setenv(SEED, " 12 ")
    assert seed_everything(verbose=False) == 12
    monkeypatch.delenv(SEED)
    with pytest.warns(UserWarning, match="no seed, and the environment has none: the seed is 0"):
        assert seed_everything(verbose=False) == 0


@pytest.mark.parametrize("value", ["x", "", "1.0", "-3", str(MAX_SEED + 1)])
def test_what_the_environment_says_is_checked(value, monkeypatch):
    monkeypatch.setenv(SEED, value)
    with pytest.raises(ValueError, match=f"the environment variable {SEED} is {value!r}"):
        seed_everything()


def test_every_generator_is_seeded():
    seed_everything(3, verbose=False)
    first = drawn()
    assert drawn() != first
    reset_seed()
    assert drawn() == first


def test_a_reset_keeps_whether_workers_are_seeded_and_does_nothing_without_a_seed():
    import os

    before = torch.get_rng_state()
    reset_seed()
    assert torch.equal(torch.get_rng_state(), before)
    seed_everything(3, workers=True, verbose=False)
    reset_seed()
    assert os.environ[WORKERS] == "1"


def test_the_seed_is_told_once(caplog):
    caplog.set_level(logging.INFO, logger="lx")
    seed_everything(5)
    seed_everything(5, verbose=False)
    assert caplog.messages == ["Seed set to 5"]


def test_workers_of_all_ranks_draw_differently_and_the_same_each_time():
    def first_of(worker, rank):
        torch.manual_seed(100 + worker)  # what a loader does
        worker_init_function(worker, rank)
        return drawn()

    found = {(worker, rank): first_of(worker, rank) for worker in range(3) for rank in range(2)}
    assert len(set(found.values())) == 6
    assert found == {place: first_of(*place) for place in found}
    assert all(len({value[kind] for value in found.values()}) == 6 for kind in range(3))
