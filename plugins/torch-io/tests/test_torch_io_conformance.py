from lx.testing.conformance.checkpoint_io import CheckpointIOConformance


class TestTorchIO(CheckpointIOConformance):
    component = "torch_io"


class TestTorchIOWithAnyObject(CheckpointIOConformance):
    component = "torch_io(allow_objects=True)"


class TestTorchIOWithoutVerifying(CheckpointIOConformance):
    component = "torch(verify=False)"
    test_a_changed_byte_is_found_wherever_it_is = None  # it was told not to look
