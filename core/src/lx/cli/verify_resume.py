"""`lx verify-resume`: kills a training script at random points, has it go on, and compares with a run that nobody killed."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from lx.cli.resuming.comparison import Difference, Reading, first_difference
from lx.cli.resuming.trials import Launch, RestartError, Trials, TroubleError, launch

SAME, DIFFERENT, TROUBLE = 0, 1, 2


def run(arguments: Sequence[str], launch: Launch = launch) -> int:
    """Runs `lx verify-resume` with the arguments after this word; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="lx verify-resume",
        usage="%(prog)s [options] SCRIPT [ARGUMENTS OF THE SCRIPT ...]",
        description="Runs a training script whole, then kills it at random points and starts it again until it ends, and says whether all"
        " is bit for bit as if nobody had killed it: weights, optimizer, schedulers, metrics, and what loggers got. A script that passes no"
        " ckpt_path to fit is run as with ckpt_path='auto'. Each run has a new, empty working directory.",
        epilog="exit code: 0 resumes exactly, 1 does not, 2 there is nothing to compare",
    )
    parser.add_argument("script", metavar="SCRIPT", type=Path, help="the script")
    parser.add_argument("arguments", metavar="ARGUMENTS", nargs=argparse.REMAINDER, help="what it is passed")
    parser.add_argument("--kills", type=int, default=5, help="how often it is killed (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the points at which it is killed are drawn from it (default: %(default)s)")
    parser.add_argument("--signal", choices=["KILL", "TERM"], default="KILL", help="what it is killed with (default: %(default)s)")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="keeps what the runs wrote in this new folder")
    options = parser.parse_args(arguments)
    if options.kills < 1:
        parser.error(f"argument --kills: {options.kills} is too few; 1 is the least.")
    if not hasattr(signal, "SIGKILL"):
        return _fail("it needs signals, which this operating system does not have.")
    if not options.script.is_file():
        return _fail(f"there is no file {str(options.script)!r}.")
    if options.keep is not None and options.keep.exists():
        return _fail(f"{str(options.keep)!r} exists; --keep takes the name of a new folder.")
    with tempfile.TemporaryDirectory(prefix="lx-verify-resume-") as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        script = [str(options.script.resolve()), *options.arguments]
        trials = Trials(script, folder.resolve(), signal.Signals[f"SIG{options.signal}"], options.seed, launch)
        return Verification(trials, options.kills).run()


def _fail(said: str) -> int:
    print(f"lx verify-resume: {said}", file=sys.stderr)
    return TROUBLE


class Verification:
    """The runs of one command, and what is said of them."""

    def __init__(self, trials: Trials, kills: int, say: Callable[[str], None] = lambda line: print(line, flush=True)) -> None:
        self._trials, self._kills, self._say = trials, kills, say
        self._ignored: set[str] | None = None  # until a second whole run was needed to know
        self._done = 0

    def run(self) -> int:
        """Does all runs, and says how each went; returns the exit code."""
        try:
            whole = self._trials.run_whole()
            self._say(f"not killed: {whole.size}, {self._trials.seconds:.1f} s")
            for number in range(1, 3 * self._kills + 1):
                if self._done == self._kills:
                    break
                if not self._try(f"run-{number}"):
                    return DIFFERENT
        except TroubleError as error:
            return _fail(str(error))
        if not self._done:
            return _fail("every kill came too late: the script ends too soon.")
        if self._ignored:
            self._say(f"not compared, since they differ between two runs that nobody killed: {', '.join(sorted(self._ignored))}")
        if self._done < self._kills:
            self._say(f"killed {self._done} times instead of {self._kills}: the other kills came when all was over")
        self._say(f"resumes exactly: {self._done} of {self._done} kills, {whole.size}")
        return SAME

    def _try(self, name: str) -> bool:
        """One run that is killed; returns whether it was the same."""
        try:
            reading = self._trials.run_killed(name, self._kills - self._done)
        except RestartError as error:
            self._tell_kills(error.reading)
            self._say(f"does not resume: {error}")
            return False
        self._tell_kills(reading)
        difference = self._difference(reading)
        if difference is not None:
            self._say(f"does not resume exactly. The first difference is at {difference}.")
        return difference is None

    def _tell_kills(self, reading: Reading) -> None:
        for kill in reading.kills:
            self._done += 1
            self._say(f"kill {self._done}: {kill}")

    def _difference(self, reading: Reading) -> Difference | None:
        """What differs, but for values that differ between any two runs, such as measured times."""
        found = first_difference(self._trials.whole, reading, self._ignored or ())
        if found is None or self._ignored is not None:
            return found
        self._ignored = self._find_ignored()
        return first_difference(self._trials.whole, reading, self._ignored)

    def _find_ignored(self) -> set[str]:
        """The names of values that differ between two runs that nobody killed; raises `TroubleError` if these differ otherwise, too."""
        ignored: set[str] = set()
        again = self._trials.run_again()
        while (found := first_difference(self._trials.whole, again, ignored)) is not None:
            if not found.only_values or not found.names - ignored:
                raise TroubleError(
                    f"two runs that nobody killed differ already, at {found}. Seed everything that is random, as with"
                    " lx.seed_everything(1, workers=True), and do not let time decide."
                )
            ignored |= found.names
        return ignored
