from lx.testing.conformance.checkpoint_io import CheckpointIOConformance


class TestSafetensorsIO(CheckpointIOConformance):
    component = "safetensors_io"


class TestSafetensorsIOWithoutVerifying(CheckpointIOConformance):
    component = "safetensors(verify=False)"
    test_a_changed_byte_is_found_wherever_it_is = None  # type: ignore[assignment]  # it was told not to look
