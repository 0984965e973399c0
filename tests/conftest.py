"""Shared by tests of several modules."""

import pytest


@pytest.fixture
def kernels_for_cuda():
    """Of a traced function: how many Pallas kernels it has when it is lowered for CUDA."""

    def count(traced) -> int:
        try:
            text = traced.lower(lowering_platforms=("cuda",)).as_text()
        except RuntimeError as error:
            # From JAX 0.11 on; before, no device is needed.
            if "No supported GPU devices found" not in str(error):
                raise
            pytest.skip("this JAX lowers Pallas kernels only where a GPU is")
        return text.count("@__gpu$xla.gpu.triton")

    return count
