"""Logging of metrics: sites, meters, and the log of a run."""

from lx.logging.log import RunLog, numbers
from lx.logging.meters import Meter

__all__ = ["Meter", "RunLog", "numbers"]
