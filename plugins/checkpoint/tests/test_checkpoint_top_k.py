"""The book of the best checkpoints."""

import math

import pytest
import torch

from lx_plugin_checkpoint.top_k import Standing, admits, as_score, beats, make_room, standing


def book(**scores):
    return {name: torch.tensor(float(score)) for name, score in scores.items()}


def paths(found: Standing):
    return found.best_path, found.kth_path


@pytest.mark.parametrize(
    ("scores", "k", "mode", "best", "worst"),
    [
        ({"a": 3, "b": 1, "c": 2}, 3, "min", "b", "a"),
        ({"a": 3, "b": 1, "c": 2}, 3, "max", "a", "b"),
        ({"a": 3, "b": 1}, 3, "min", "b", ""),
        ({"a": 3, "b": 1}, -1, "min", "b", "a"),
        ({"a": 1, "b": 1}, 2, "min", "a", "a"),
        ({}, 1, "min", "", ""),
    ],
)
def test_a_book_is_ranked(scores, k, mode, best, worst):
    assert paths(standing(book(**scores), k, mode)) == (best, worst)


@pytest.mark.parametrize(
    ("score", "k", "mode", "admitted"),
    [(3, 2, "min", False), (2.9, 2, "min", True), (1, 2, "max", False), (1.1, 2, "max", True), (9, 3, "min", True), (9, -1, "min", True)],
)
def test_a_score_is_admitted_to_free_room_or_if_strictly_better(score, k, mode, admitted):
    assert admits(book(a=3, b=1), torch.tensor(float(score)), k, mode) is admitted


def test_room_is_made_by_the_worst_and_by_more_than_one_if_the_book_was_larger():
    held = book(a=3, b=1, c=2)
    assert make_room(held, 3, "min") == ["a"]
    held = book(a=3, b=1, c=2)
    assert make_room(held, 1, "min") == ["a", "c", "b"]
    assert held == {}
    held = book(a=3)
    assert make_room(held, 2, "min") == []
    assert make_room(held, -1, "min") == []


def test_nan_is_the_worst_value():
    assert as_score(torch.tensor(math.nan), "min").item() == math.inf
    assert as_score(math.nan, "max").item() == -math.inf
    assert not beats(as_score(math.nan, "min"), as_score(math.inf, "min"), "min")


def test_a_score_is_cut_off_from_the_metric():
    metric = torch.tensor(1.0, requires_grad=True)
    score = as_score(metric, "min")
    with torch.no_grad():
        metric.fill_(5.0)
    assert score.item() == 1.0
    assert not score.requires_grad
    assert as_score(7, "min").dtype is torch.int64
