"""Logging of metrics: sites, meters, and the log of a run."""

from lx.logging.log import RunLog
from lx.logging.meters import Meter
from lx.logging.published import numbers

__all__ = ["Meter", "RunLog", "numbers"]
