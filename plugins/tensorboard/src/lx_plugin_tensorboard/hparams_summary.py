"""The messages with which TensorBoard's HPARAMS tab lists a run."""

from collections.abc import Iterable, Mapping
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata  # type: ignore[import-untyped]
from tensorboard.plugins.hparams import api_pb2  # type: ignore[import-untyped]
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]


def session_start(params: Mapping[str, Any], metrics: Iterable[str]) -> Summary:
    """The hyperparameters of a run, flat, and the tags of the metrics to show beside them."""
    experiment, session = HParamsPluginData(), HParamsPluginData()
    experiment.experiment.SetInParent()
    session.session_start_info.SetInParent()
    for name, value in params.items():
        info = experiment.experiment.hparam_infos.add(name=name)
        entry = session.session_start_info.hparams[name]
        if isinstance(value, bool):
            info.type, entry.bool_value = api_pb2.DATA_TYPE_BOOL, value
        elif isinstance(value, int | float):
            info.type, entry.number_value = api_pb2.DATA_TYPE_FLOAT64, value
        else:
            info.type, entry.string_value = api_pb2.DATA_TYPE_STRING, str(value)
    for tag in metrics:
        experiment.experiment.metric_infos.add().name.tag = tag
    return Summary(value=[_value("experiment", experiment), _value("session_start_info", session)])


def session_end(success: bool) -> Summary:
    """How a run ended."""
    data = HParamsPluginData()
    data.session_end_info.status = api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE
    return Summary(value=[_value("session_end_info", data)])


def _value(name: str, data: HParamsPluginData) -> Summary.Value:
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=data.SerializeToString())
    return Summary.Value(tag=f"_hparams_/{name}", metadata=SummaryMetadata(plugin_data=plugin))
