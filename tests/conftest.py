"""Shared by tests of several modules."""

import os
import tarfile
import tempfile
import warnings

import pytest

# Most of the suite's time is LLVM at work on programs that run for milliseconds, so it does without
# its costly passes, here and in every process that a test starts. Set by hand, the flags count.
QUICK = ("--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true")
_FLAGS = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = " ".join(
    [*(flag for flag in QUICK if flag.split("=")[0] not in _FLAGS), *_FLAGS.split()]
)

# What two tests compile, in this process, in the other worker or in one that a test starts, is
# compiled once: programs are kept for the session. The workers inherit the folder.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _PROGRAMS = tempfile.TemporaryDirectory(prefix="jfsed_jax_xla_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _PROGRAMS.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import learning_problem  # noqa: E402
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh  # noqa: E402

import jfsed_jax as jf  # noqa: E402
from jfsed_jax.datasets import demo  # noqa: E402


@pytest.fixture(scope="session")
def demo_set(tmp_path_factory):
    """A folder with a rendered data set in ``data`` and its log-mel at `:tiny` in ``features``.

    To be read only: a test that changes it, or needs a workdir beside it, copies it.
    """
    folder = tmp_path_factory.mktemp("demo_set")
    counts = dict(num_weak=6, num_unlabelled=8, num_strong=10, num_validation=4)
    # One process: to start others takes longer.
    demo.render(folder / "data", workers=1, progress=False, **counts)
    front_end = jf.FrontEnd(**jf.load_config("pts:tiny").front_end)
    jf.prepare(
        folder / "data", front_end, features_dir=folder / "features", workers=1, progress=False
    )
    return folder


@pytest.fixture(scope="session")
def learnt_run(tmp_path_factory):
    """The workdir of a stored run that has learnt, see learning_problem.py; to be read only."""
    folder = tmp_path_factory.mktemp("learnt")
    with tarfile.open(learning_problem.STORED) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def features_of_tables(demo_set, tmp_path):
    """A folder where `reproduce` finds the features of `demo_set`."""
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "hop735-window1764").symlink_to(demo_set / "features")
    return tmp_path / "features"


@pytest.fixture
def h100():
    """The device that kernels are lowered for: from JAX 0.11 on, one that is here or one named."""
    return AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=None, platform="gpu")


@pytest.fixture
def kernels_for_cuda(h100):
    """Of a jitted function and its arguments: its Pallas kernels when it is lowered for CUDA."""
    call = {"triton": "@__gpu$xla.gpu.triton", "mosaic": "@mosaic_gpu"}

    def count(function, *arguments, backend="triton") -> int:
        mesh = AbstractMesh((), (), abstract_device=h100)
        with use_abstract_mesh(mesh), warnings.catch_warnings():
            # Known: without Triton the kernels' loops are scans (`jfsed_jax.kernels.bigru`).
            warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated")
            lowered = function.trace(*arguments).lower(lowering_platforms=("cuda",))
        text = lowered.as_text()
        found = {name: text.count(target) for name, target in call.items()}
        assert sum(found.values()) == found[backend], found
        return found[backend]

    return count


def pytest_configure(config):
    # A program that another process is writing, or was killed in writing, is compiled again.
    failed = "ignore:Error (reading|writing) persistent compilation cache entry"
    config.addinivalue_line("filterwarnings", failed)


# Files that train for minutes with few tests: begun last, they would keep one of two workers alone.
LONGEST = (
    "test_hosts.py",
    "test_end_to_end.py",
    "test_extending.py",
    "test_reproduce.py",
    "test_side_by_side.py",
    "test_train_step.py",
    "test_parity.py",
    "test_recording_browser.py",
    "test_origin.py",
    "test_circle.py",
    "test_long_training.py",
    "test_format_1.py",
    "test_learning.py",
    "test_benchmark.py",
    "test_export.py",
    "test_predict.py",
    "test_folder.py",
    "test_models.py",
    "test_packaging.py",
    "test_not_finite.py",
    "test_supervised.py",
)


def pytest_collection_modifyitems(items):
    """The longest files first; otherwise the order stays."""
    last = len(LONGEST)
    names = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: names.get(item.path.name, last))
