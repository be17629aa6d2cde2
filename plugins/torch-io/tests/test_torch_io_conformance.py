from lx.testing.conformance.checkpoint_io import CheckpointIOConformance


class TestTorchIO(CheckpointIOConformance):
    component = "torch_io"


class TestTorchIOWithoutVerifying(CheckpointIOConformance):
    component = "torch(verify=False)"
