"""Where MLflow keeps runs, and the experiment and the run in it that a logger writes to."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import rank_zero_warn


class Store:
    """The store that a tracking URI names; without one it is a database of its own, `<save_dir>/mlflow.db`.

    Nothing is made or contacted before `connect`.

    >>> Store(None, "~/runs").uri.endswith("/runs/mlflow.db"), Store("http://127.0.0.1:5000", "runs").folder
    (True, None)
    """

    def __init__(self, uri: str | None, save_dir: str | os.PathLike[str]) -> None:
        folder = Path(os.path.expanduser(os.path.expandvars(os.fspath(save_dir)))).absolute()
        self.is_own = not uri
        self.uri = uri or f"sqlite:///{(folder / 'mlflow.db').as_posix()}"
        parsed = urlparse(self.uri)
        self.folder: str | None = str(folder) if self.is_own else url2pathname(parsed.path) if parsed.scheme == "file" else None
        """The folder on this machine that holds everything; None where that is a server or a database of the user's."""

    def connect(self) -> Any:
        """An `MlflowClient`; a database of its own is made if it is not there."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 -- 2 s that only a run which logs should pay
        from mlflow.tracking import MlflowClient  # noqa: PLC0415 -- as above

        if self.is_own and self.folder is not None:
            self._make(Path(self.folder))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # between MLflow and SQLAlchemy, which the user cannot cure
                return MlflowClient(self.uri)
        except MlflowException as error:
            if "MLFLOW_ALLOW_FILE_STORE" not in str(error):
                raise
            raise MisconfigurationException(
                f"tracking_uri={self.uri!r} names a folder, and this MLflow keeps no runs in plain files any more. Leave tracking_uri away "
                "for a database in save_dir, or pass 'sqlite:///PATH/mlflow.db' or the address of a server. To go on with the files, set "
                "the environment variable MLFLOW_ALLOW_FILE_STORE=true."
            ) from error

    def _make(self, folder: Path) -> None:
        if not (folder / "mlflow.db").exists() and any(folder.glob("*/meta.yaml")):
            rank_zero_warn(
                f"{folder} holds runs as plain files, MLflow's former format. This run goes to a new database beside them, mlflow.db; "
                "`mlflow migrate-filestore` moves the others. To go on with the files pass "
                f"tracking_uri={folder.as_uri()!r} and set MLFLOW_ALLOW_FILE_STORE=true."
            )
        folder.mkdir(parents=True, exist_ok=True)

    def experiment_id(self, client: Any, name: str, artifact_location: str | None) -> str:
        """The id of the experiment of a name, which is made if there is none."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 -- as in connect

        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            if artifact_location is None and self.is_own and self.folder is not None:
                artifact_location = Path(self.folder, "artifacts").as_uri()  # MLflow's own choice is the working directory
            try:
                return str(client.create_experiment(name, artifact_location=artifact_location))
            except MlflowException:
                experiment = client.get_experiment_by_name(name)  # another process was faster
                if experiment is None:
                    raise
        if experiment.lifecycle_stage == "deleted":
            raise MisconfigurationException(
                f"experiment_name={name!r}: that experiment was deleted, and MLflow keeps its name. Choose another one, or bring it back "
                f"with `mlflow experiments restore --experiment-id {experiment.experiment_id}`."
            )
        return str(experiment.experiment_id)


def create_run(client: Any, experiment_id: str, name: str | None, tags: Mapping[str, Any]) -> str:
    """Starts a run, with the tags by which MLflow says who started which program, and returns its id."""
    from mlflow.tracking.context.registry import resolve_tags  # noqa: PLC0415 -- as in connect

    return str(client.create_run(experiment_id, run_name=name, tags=resolve_tags(dict(tags))).info.run_id)
