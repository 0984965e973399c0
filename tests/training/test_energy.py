"""Joules from made-up counters: what is counted, overflows, and what cannot be read."""

import sys
from types import SimpleNamespace

import pytest

from jfsed_jax.training.energy import Energy


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as where it is not installed


def zone(folder, name, energy, overflow=1_000_000_000):
    folder.mkdir(parents=True, exist_ok=True)
    for file, value in (
        ("name", name),
        ("energy_uj", energy),
        ("max_energy_range_uj", overflow),
    ):
        (folder / file).write_text(f"{value}\n")


def test_packages_and_their_memory_are_counted_once(tmp_path):
    """Cores are part of their package, psys has it all, and mmio is a second way to the same."""
    zones = {
        "intel-rapl:0": ("package-0", 1),
        "intel-rapl:0:0": ("core", 10),
        "intel-rapl:0:1": ("dram", 100),
        "intel-rapl:1": ("package-1", 1000),
        "intel-rapl:2": ("psys", 10_000),
        "intel-rapl-mmio:0": ("package-0", 100_000),
    }
    for folder, (name, _) in zones.items():
        zone(tmp_path / folder, name, 5_000_000)
    energy = Energy(tmp_path)
    for folder, (_, joules) in zones.items():
        (tmp_path / folder / "energy_uj").write_text(f"{5_000_000 + joules * 1_000_000}\n")
    assert energy.used() == pytest.approx(1 + 100 + 1000)
    assert energy.used() == 0.0  # since the last call


def test_a_counter_that_begins_anew(tmp_path):
    zone(tmp_path / "intel-rapl:0", "package-0", 999_000_000)
    energy = Energy(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("2000000")
    assert energy.used() == pytest.approx(3.0)


def test_where_nothing_tells_nothing_is_told(tmp_path):
    assert Energy(tmp_path / "no-such-folder").used() is None
    (tmp_path / "intel-rapl:0").mkdir()
    (tmp_path / "intel-rapl:0" / "name").write_text("package-0\n")  # and no counter: no right
    zone(tmp_path / "intel-rapl:1", "package-1", "not a number")
    assert Energy(tmp_path).used() is None


def test_a_counter_that_goes_away_is_a_warning(tmp_path, caplog):
    zone(tmp_path / "intel-rapl:0", "package-0", 1)
    energy = Energy(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert energy.used() is None and energy.used() is None
    (record,) = caplog.records
    assert "intel-rapl:0/energy_uj" in record.getMessage()


def nvml(millijoules, count=3):
    return SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: count,
        nvmlDeviceGetHandleByIndex=lambda i: i,
        nvmlDeviceGetHandleByUUID={"GPU-a1": 0, "GPU-b2": 1}.__getitem__,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: millijoules[handle],
    )


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(None, 111.0), ("2", 100.0), ("0, 2", 101.0), ("GPU-b2", 10.0), ("", None), ("7", None)],
)
def test_gpus_that_the_process_may_use(tmp_path, monkeypatch, visible, expected):
    millijoules = {i: 5 for i in range(3)}
    monkeypatch.setitem(sys.modules, "pynvml", nvml(millijoules))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    energy = Energy(tmp_path)
    for i in millijoules:
        millijoules[i] += 1000 * 10**i
    assert energy.used() == expected


def test_a_machine_without_a_driver(tmp_path, monkeypatch):
    def no_driver():
        raise OSError("NVML Shared Library Not Found")

    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(nvmlInit=no_driver))
    assert Energy(tmp_path).used() is None
