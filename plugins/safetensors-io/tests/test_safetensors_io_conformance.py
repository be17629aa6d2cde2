from lx.testing.conformance.checkpoint_io import CheckpointIOConformance


class TestSafetensorsIO(CheckpointIOConformance):
    component = "safetensors_io"


class TestSafetensorsIOWithoutVerifying(CheckpointIOConformance):
    component = "safetensors(verify=False)"
    finds_damage = False
