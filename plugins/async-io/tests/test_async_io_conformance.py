from lx.testing.conformance.checkpoint_io import CheckpointIOConformance


class TestAsyncIO(CheckpointIOConformance):
    component = "async_io"


class TestAsyncIOOverANamedOne(CheckpointIOConformance):
    component = "async(checkpoint_io='torch_io(verify=False)', pending=0)"
    test_a_changed_byte_is_found_wherever_it_is = None  # it was told not to look
