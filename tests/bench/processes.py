"""What a framework costs before the first step is done: fresh processes, by their CPU time and peak memory."""

import os
import subprocess
import sys
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


def cost_of(program: str) -> Cost:
    """CPU seconds (user and system) and peak resident megabytes of a fresh interpreter; raises if it fails."""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the program failed with {process.returncode}:\n{program}\n{errors}")
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def least(programs: dict[str, str], runs: int) -> dict[str, Cost]:
    """The least that each program took over alternating runs; seconds and megabytes may come from different ones."""
    found: dict[str, list[Cost]] = {name: [] for name in programs}
    for _ in range(runs):
        for name, program in programs.items():
            found[name].append(cost_of(program))
    return {name: Cost(min(cost.seconds for cost in costs), min(cost.megabytes for cost in costs)) for name, costs in found.items()}
