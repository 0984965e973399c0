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


# Files that train for minutes with few tests: begun last, they would keep one of two workers alone.
LONGEST = (
    "test_end_to_end.py",
    "test_extending.py",
    "test_reproduce.py",
    "test_train_step.py",
    "test_parity.py",
    "test_format_1.py",
)


def pytest_collection_modifyitems(items):
    """The longest files first; otherwise the order stays."""
    last = len(LONGEST)
    names = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: names.get(item.path.name, last))
