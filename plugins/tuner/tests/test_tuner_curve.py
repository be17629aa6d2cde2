"""What a curve suggests, and how it is drawn."""

import sys

import pytest

from lx.kernel.errors import MisconfigurationException
from lx_plugin_tuner.curve import LRFinder

INF, NAN = float("inf"), float("nan")


def curve(losses, mode="exponential"):
    made = LRFinder(mode, 1e-3, 1.0, len(losses))
    made.results = {"lr": [made.rate(step) for step in range(len(losses))], "loss": losses}
    return made


@pytest.mark.parametrize(
    ("losses", "skips", "step"),
    [
        ([5.0, 5.0, 5.0, 4.0, 2.0, 1.9, 9.0], (0, 1), 3),
        ([5.0, 1.0, 5.0, 4.0, 2.0, 1.9, 9.0], (2, 1), 3),
        ([5.0, 5.0, 4.0, 1.0], (0, 0), 3),  # the end is left out only where that is asked for
        ([5.0, NAN, 5.0, 4.0, 2.0, 1.9, INF], (0, 0), 3),  # what is not finite moves nothing
        ([1.0] * 10 + [3.0, 2.0, 1.0], (10, 1), 10),
    ],
)
def test_the_suggestion_is_where_the_loss_falls_most_steeply(losses, skips, step):
    one = curve(losses)
    assert one.suggestion(*skips) == one.results["lr"][step]


@pytest.mark.parametrize(("losses", "skips"), [([], (0, 0)), ([1.0] * 12, (10, 1)), ([NAN] * 5, (0, 0)), ([1.0, INF, NAN], (0, 0))])
def test_of_fewer_than_two_finite_losses_nothing_is_suggested(losses, skips):
    with pytest.warns(UserWarning, match=rf"{len(losses)} loss\(es\) were met"):
        assert curve(losses).suggestion(*skips) is None


@pytest.mark.parametrize(("mode", "scale"), [("exponential", "log"), ("linear", "linear")])
def test_it_is_drawn_with_the_suggestion(mode, scale, monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append("shown"))
    one = curve([5.0] * 12 + [4.0, 3.0, 2.5, 80.0], mode)
    figure = one.plot(suggest=True, show=True)
    (ax,) = figure.axes
    line, mark = ax.lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == (one.results["lr"], one.results["loss"])
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (one.suggestion(), 4.0)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == ("Learning rate", "Loss", scale)
    assert ax.get_ylim()[1] == 6.25, "the last loss does not flatten the others"
    assert shown == ["shown"]
    own, axes = pyplot.subplots()
    assert one.plot(ax=axes) is own
    assert len(axes.lines) == 1
    assert curve([]).plot().axes[0].lines
    pyplot.close("all")


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MisconfigurationException, match="pip install matplotlib"):
        curve([1.0, 2.0]).plot()
