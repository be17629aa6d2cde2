"""What a framework costs before the first step is done: fresh processes, by their CPU time and peak memory."""

import subprocess
import sys
from statistics import median
from typing import NamedTuple

PLAIN = """
import torch
layer, loader = torch.nn.Linear(8, 1), torch.utils.data.DataLoader(torch.randn(64, 8), batch_size=8)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for batch in loader:
    optimizer.zero_grad()
    layer(batch).mean().backward()
    optimizer.step()
    break
"""
TRAINER = """
import warnings, logging, tempfile
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
import torch
from {framework} import Trainer, LightningModule

class Model(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)
    def training_step(self, batch, batch_idx):
        return self.layer(batch).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

loader = torch.utils.data.DataLoader(torch.randn(64, 8), batch_size=8)
with tempfile.TemporaryDirectory() as root:
    trainer = Trainer(accelerator="cpu", max_steps=1, default_root_dir=root, enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Model(), loader)
"""
NAMES = "from {framework} import Trainer, LightningModule"
BARE = "import sys, {framework}; sys.exit('torch' in sys.modules)"
PLUGINS = "import sys; from lx.cli import main; sys.argv = ['lx', 'plugins']; main(); sys.exit('torch' in sys.modules)"


class Cost(NamedTuple):
    """What a process took."""

    seconds: float
    megabytes: float


MEASURE = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-c", sys.argv[1]], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(done.returncode)
"""
"""A small process between: a child's peak memory begins at that of its parent, which here is one with torch."""


def cost_of(program: str) -> Cost:
    """CPU seconds (user and system) and peak resident megabytes of a fresh interpreter; raises if it fails."""
    done = subprocess.run([sys.executable, "-c", MEASURE, program], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the program failed with {done.returncode}:\n{program}\n{done.stderr}")
    seconds, megabytes = map(float, done.stdout.split())
    return Cost(seconds, megabytes)


def costs(programs: dict[str, str], runs: int) -> dict[str, list[Cost]]:
    """What each program took in each of so many rounds, in which each ran once."""
    rounds = [{name: cost_of(program) for name, program in programs.items()} for _ in range(runs)]
    return {name: [each[name] for each in rounds] for name in programs}


def over(one: list[Cost], other: list[Cost]) -> float:
    """The ratio of the seconds of two programs: the median over the rounds."""
    return median(mine.seconds / theirs.seconds for mine, theirs in zip(one, other, strict=True))


def least_seconds(runs: list[Cost]) -> float:
    """The least that one program took."""
    return min(run.seconds for run in runs)


def least_megabytes(runs: list[Cost]) -> float:
    """The least peak of one program."""
    return min(run.megabytes for run in runs)
