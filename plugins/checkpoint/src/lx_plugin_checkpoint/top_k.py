"""The book of the best checkpoints: which are in it, which is the best, and which must go when another comes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

MODES = ("min", "max")


def worst_value(mode: str) -> Tensor:
    """What every score beats: infinity, negative for `"max"`."""
    return torch.tensor(math.inf if mode == "min" else -math.inf)


def beats(score: Tensor, other: Tensor, mode: str) -> bool:
    """Whether a score is strictly better than another.

    >>> beats(torch.tensor(1.0), torch.tensor(1.0), "min"), beats(torch.tensor(2.0), torch.tensor(1.0), "max")
    (False, True)
    """
    return bool(score < other) if mode == "min" else bool(score > other)


def as_score(value: Tensor | float, mode: str) -> Tensor:
    """A metric as it is compared and kept: on the CPU, cut off from later changes, NaN as the worst value. Waits for the device."""
    score = torch.as_tensor(value).detach().to("cpu", copy=True)
    return worst_value(mode).to(score.dtype) if torch.isnan(score) else score


@dataclass(frozen=True, slots=True)
class Standing:
    """The best entry of a book, and the worst one, which goes next; the worst is empty while there is room."""

    best_path: str = ""
    best_score: Tensor | None = None
    kth_path: str = ""
    kth_score: Tensor | None = None


def standing(book: Mapping[str, Tensor], k: int, mode: str) -> Standing:
    """Ranks a book of `path -> score` that has room for `k` (-1: for all); among equals the oldest is the best and the worst.

    >>> book = {"a": torch.tensor(3.0), "b": torch.tensor(1.0)}
    >>> standing(book, 2, "min").best_path, standing(book, 2, "min").kth_path, standing(book, 3, "min").kth_path
    ('b', 'a', '')
    """
    if not book:
        return Standing()
    lowest = min(book, key=lambda path: float(book[path]))
    highest = max(book, key=lambda path: float(book[path]))
    best, worst = (lowest, highest) if mode == "min" else (highest, lowest)
    if k != -1 and len(book) < k:
        return Standing(best, book[best])
    return Standing(best, book[best], worst, book[worst])


def admits(book: Mapping[str, Tensor], score: Tensor, k: int, mode: str) -> bool:
    """Whether a score belongs among the best `k`: there is room, or it is strictly better than the worst one there.

    >>> admits({"a": torch.tensor(3.0)}, torch.tensor(3.0), 1, "min"), admits({"a": torch.tensor(3.0)}, torch.tensor(2.0), 1, "min")
    (False, True)
    """
    if k == -1 or len(book) < k:
        return True
    worst = standing(book, k, mode).kth_score
    return worst is not None and beats(score, worst, mode)


def make_room(book: dict[str, Tensor], k: int, mode: str) -> list[str]:
    """Takes the worst entries out of a full book until one more fits in, and returns their paths, the last one first to be replaced.

    More than one goes where a run is resumed with a smaller `k`.

    >>> book = {"a": torch.tensor(3.0), "b": torch.tensor(1.0)}
    >>> make_room(book, 2, "min"), list(book)
    (['a'], ['b'])
    """
    gone = []
    while k != -1 and len(book) >= k:
        gone.append(standing(book, k, mode).kth_path)
        del book[gone[-1]]
    return gone
