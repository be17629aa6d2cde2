"""The interfaces: one abstract class a file, for each kind of component. They know torch and the kernel, nothing above."""

from lx.interfaces.accelerator import Accelerator, AcceleratorCapabilities
from lx.interfaces.callback import EVENTS, Callback, Checkpoint
from lx.interfaces.checkpoint_io import CheckpointIO
from lx.interfaces.environment import ClusterEnvironment
from lx.interfaces.launcher import Launcher
from lx.interfaces.layer_sync import LayerSync
from lx.interfaces.logger import Logger, Point
from lx.interfaces.precision import Precision, PrecisionCapabilities
from lx.interfaces.profiler import PassThroughProfiler, Profiler
from lx.interfaces.progress_bar import ProgressBar
from lx.interfaces.strategy import Strategy, StrategyCapabilities

__all__ = [
    "EVENTS",
    "Accelerator",
    "AcceleratorCapabilities",
    "Callback",
    "Checkpoint",
    "CheckpointIO",
    "ClusterEnvironment",
    "Launcher",
    "LayerSync",
    "Logger",
    "PassThroughProfiler",
    "Point",
    "Precision",
    "PrecisionCapabilities",
    "Profiler",
    "ProgressBar",
    "Strategy",
    "StrategyCapabilities",
]
