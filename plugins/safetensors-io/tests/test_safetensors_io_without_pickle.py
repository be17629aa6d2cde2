"""Loading calls no unpickler: a process in which they all fail goes on from a checkpoint, and reads it in every other way."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

PROGRAM = """
    import _pickle, pickle, sys

    import torch
    import torch._weights_only_unpickler as safe

    from lx import Trainer
    from lx.testing import TinyDataModule, TinyModule

    folder, seen = sys.argv[1], []


    def trainer(epochs):
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        return Trainer(accelerator="cpu", max_epochs=epochs, default_root_dir=folder, plugins="safetensors_io", **quiet)


    class Failing:
        def __init__(self, *arguments, **options):
            raise AssertionError("an unpickler is called")


    path, pickled, run = f"{folder}/last.ckpt", f"{folder}/pickled.ckpt", trainer(1)
    run.fit(TinyModule(), TinyDataModule())
    run.save_checkpoint(path)
    torch.save({"epoch": 1}, pickled)
    loads, names_a_class = pickle.loads, pickle.dumps(TinyModule)
    for module in (pickle, _pickle, safe):
        for name in ("Unpickler", "_Unpickler", "load", "loads", "_load", "_loads"):
            if hasattr(module, name):
                setattr(module, name, Failing)
    sys.addaudithook(lambda event, arguments: seen.append(arguments) if event == "pickle.find_class" else None)

    run = trainer(2)
    run.fit(TinyModule(), TinyDataModule(), ckpt_path=path)
    assert run.current_epoch == 2 and run.global_step == 8
    for evaluate in (run.validate, run.test):
        evaluate(TinyModule(), TinyDataModule(), ckpt_path=path, verbose=False)
    run.predict(TinyModule(), TinyDataModule(), ckpt_path=path)
    TinyModule.load_from_checkpoint(path)
    run.strategy.checkpoint_io.outline(path)
    assert not seen, seen

    for weights_only in (True, False):
        try:
            torch.load(pickled, weights_only=weights_only)
        except AssertionError as error:
            print(error)
    loads(names_a_class)
    print(seen)
"""


def test_no_unpickler_is_called(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", dedent(PROGRAM), tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # By torch.load, and by an unpickler that was kept from before: which shows that the watch is kept.
    assert done.stdout == "an unpickler is called\n" * 2 + "[('lx.testing.models', 'TinyModule')]\n"
