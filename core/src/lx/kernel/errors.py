"""Every exception that lx raises by name, as one tree.

Each class also derives from the builtin that a caller would expect (`ValueError` for a bad name, `ImportError` for a
dependency), so that code written without lx in mind catches it too.
"""

from typing import Any


class LxError(Exception):
    """The root: everything that lx itself finds wrong."""


class MisconfigurationException(LxError):
    """The program asks for something that cannot be, or for two things that exclude each other."""


class ArgumentTypeError(MisconfigurationException, TypeError):
    """An argument has a type that it cannot have, such as a string for a number."""


class ArgumentValueError(MisconfigurationException, ValueError):
    """An argument has a value that it cannot have, where programs written for other trainers catch a `ValueError`."""


class ComponentError(MisconfigurationException):
    """A component that was named could not be provided."""


class UnknownComponentError(ComponentError, ValueError):
    """No plugin, installed or known, offers this name; the message carries the nearest one."""


class NotInstalledError(ComponentError, ModuleNotFoundError):
    """A plugin is known to offer this, and is not installed; the message carries the pip command."""


class BlockedError(ComponentError):
    """The plugin is installed, and `LX_PLUGINS` or `LX_DISABLE` keeps it out."""


class DependencyError(ComponentError, ImportError):
    """The plugin is installed, and a package that it requires is missing or has the wrong version."""


class BrokenPluginError(ComponentError, ImportError):
    """The plugin fails when it is imported or registers itself; the cause is chained."""


class IncompatiblePluginError(ComponentError, ImportError):
    """The plugin was written for a kernel API that this kernel does not serve."""


class CollisionError(ComponentError, ValueError):
    """Two distributions offer one name, and the request does not say which it means."""


class ComponentStringError(ComponentError, ValueError):
    """A component string cannot be parsed, or holds something else than literals."""


class ComponentArgumentError(ComponentError, TypeError):
    """An argument in a component string does not fit the component's constructor."""


class ComponentTypeError(ComponentError, TypeError, ValueError):
    """What was given for a component is no name, and no instance of its kind."""


class CheckpointError(LxError):
    """A checkpoint cannot be used."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """The path that was named does not exist."""


class CheckpointCorruptError(CheckpointError, RuntimeError):
    """The file exists, and is truncated, damaged, or no checkpoint at all."""


class CheckpointDirectoryError(CheckpointCorruptError, IsADirectoryError):
    """The path that was named is a directory, and the checkpoint I/O reads files."""


class CheckpointKeyError(CheckpointError, KeyError):
    """The checkpoint lacks a part that the request needs, such as optimizer states."""

    __str__ = Exception.__str__  # KeyError prints the repr of its argument, which makes a paragraph unreadable


class CheckpointMismatchError(CheckpointError, RuntimeError, ValueError):
    """The checkpoint is whole, and does not fit the model or its optimizers."""


class StopRun(LxError):
    """Raised by a callback or a hook, on all ranks, to end the run there: teardown follows, and nothing is raised or logged any more."""


class RewindRun(LxError):
    """Raised by a callback while a batch is trained on, on all ranks: the run goes back to the checkpoint with this `content`, and on from
    there, in the same process."""

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__("the run goes back to a checkpoint")
        self.content = content


class SIGTERMException(SystemExit):  # the name that users of Lightning catch
    """Ends a run at the next batch boundary after SIGTERM."""


def sentence(error: Exception) -> str:
    """What an error says, to stand within the message of another.

    >>> sentence(NotInstalledError("the logger 'a' is not installed."))
    "The logger 'a' is not installed."
    """
    text = str(error)
    return text[:1].upper() + text[1:]
