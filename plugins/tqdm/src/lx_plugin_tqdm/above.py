"""Lets what a program prints meanwhile stand above the bars, instead of at their ends."""

import os
import sys
from typing import Any, TextIO

from lx_plugin_tqdm.line import Tqdm

MOVES = ("\r", "\x1b[A")
"""What a bar writes to move the cursor, and a print does not."""


class Above:
    """Stands in for a stream on the terminal of the bars, and writes whole lines above them.

    What has no end yet waits for it. The bar of somebody else, which moves the cursor itself, goes through as it is, and so does what a
    process forked from this one prints, which has no bars to draw again. `blank` says whether an empty line is to stand above the bars,
    too: on the error stream it is the step down of a bar to its line.
    """

    def __init__(self, stream: TextIO, terminal: TextIO, blank: bool) -> None:
        self.stream = stream
        self.terminal = terminal
        self.blank = blank
        self._waiting = ""
        self._process = os.getpid()

    def write(self, text: str) -> int:
        """Writes what is complete, and keeps the rest."""
        moves = any(move in text for move in MOVES) or not (self.blank or self._waiting or text.strip("\n"))
        if moves or os.getpid() != self._process:
            return self.stream.write(text)
        lines, end, rest = (self._waiting + text).rpartition("\n")
        self._waiting = rest
        if end:
            with Tqdm.external_write_mode(file=self.terminal):
                self.stream.write(lines + end)
                self.stream.flush()
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes one after the other."""
        for line in lines:
            self.write(line)

    def finish(self) -> None:
        """Writes what still waits; the bars are gone."""
        waiting, self._waiting = self._waiting, ""
        if waiting:
            self.stream.write(waiting)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Prints:
    """Puts an `Above` in the place of `sys.stdout` and `sys.stderr`, where these are terminals, and takes it away again."""

    def __init__(self) -> None:
        self._placed: dict[str, Above] = {}

    def redirect(self, terminal: TextIO) -> None:
        """From now on what is printed stands above the bars on `terminal`; once is enough."""
        if self._placed:
            return
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and stream.isatty():
                self._placed[name] = above = Above(stream, terminal, blank=name == "stdout")
                setattr(sys, name, above)

    def restore(self) -> None:
        """From now on it goes where it went before. What somebody else has put in that place meanwhile stays there."""
        placed, self._placed = self._placed, {}
        for name, above in placed.items():
            above.finish()
            if getattr(sys, name) is above:
                setattr(sys, name, above.stream)
