"""The callback `tqdm`: a progress bar drawn by tqdm."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.callback.add(
        "tqdm",
        "lx_plugin_tqdm.callback:TQDMProgressBar",
        aliases=("tqdm_progress_bar",),
        roles={"progress-bar": 10},
        summary="A progress bar for training, validation, test and prediction, drawn by tqdm",
    )
