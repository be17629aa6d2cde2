from lx.testing.conformance.checkpoint_io import CheckpointIOConformance


class TestAsyncIO(CheckpointIOConformance):
    component = "async_io"


class TestAsyncIOOverANamedOne(CheckpointIOConformance):
    component = "async(checkpoint_io='torch_io', pending=0)"
