"""The meter with zeus itself, on counters made of files and on a GPU that only counts."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from gossamer.energy import EnergyMeter, counters
from gossamer.errors import UserError

pytest.importorskip("zeus.monitor.energy", reason="zeus is not installed")

MICROJOULES = {
    "intel-rapl:0": ("package-0", 1_000_000),
    "intel-rapl:0/intel-rapl:0:0": ("core", 10_000),
    "intel-rapl:0/intel-rapl:0:1": ("dram", 100_000),
    "intel-rapl:1": ("package-1", 2_000_000),
    "intel-rapl:2": ("psys", 9_000_000),
}


@pytest.fixture
def rapl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The kernel's tree of power zones: two packages, one with memory, and a platform."""
    from zeus.device import cpu, gpu
    from zeus.device.cpu import rapl as module

    root = tmp_path / "intel-rapl"
    for zone, (name, energy) in MICROJOULES.items():
        (root / zone).mkdir(parents=True)
        (root / zone / "name").write_text(f"{name}\n")
        (root / zone / "energy_uj").write_text(f"{energy}\n")
        (root / zone / "max_energy_range_uj").write_text("262143328850\n")
    monkeypatch.setattr(module, "RAPL_DIR", str(root))
    monkeypatch.setattr(cpu, "_cpus", None)
    monkeypatch.setattr(gpu, "_gpus", gpu.common.EmptyGPUs())
    module.rapl_is_available.cache_clear()
    yield root
    module.rapl_is_available.cache_clear()


def spend(root: Path, zone: str, microjoules: int) -> None:
    file = root / zone / "energy_uj"
    file.write_text(f"{int(file.read_text()) + microjoules}\n")


def test_joules_of_the_packages_and_of_their_memory(rapl: Path) -> None:
    assert counters() == ("rapl",)
    with EnergyMeter() as meter:
        spend(rapl, "intel-rapl:0", 2_500_000)
        spend(rapl, "intel-rapl:0/intel-rapl:0:0", 2_000_000)
        spend(rapl, "intel-rapl:0/intel-rapl:0:1", 250_000)
        spend(rapl, "intel-rapl:1", 500_000)
        spend(rapl, "intel-rapl:2", 30_000_000)
    assert meter.reading.joules == pytest.approx({"rapl": 3.0, "rapl dram": 0.25})
    assert meter.reading.provenance == "measured (rapl)"
    assert meter.reading.seconds > 0


def test_a_meter_can_be_used_again_after_an_error(rapl: Path) -> None:
    meter = EnergyMeter()
    with pytest.raises(KeyError), meter:
        raise KeyError
    with meter:
        spend(rapl, "intel-rapl:1", 1_000_000)
    assert meter.reading.joules["rapl"] == pytest.approx(1.0)


def test_a_zone_without_its_files(rapl: Path) -> None:
    (rapl / "intel-rapl:1" / "max_energy_range_uj").unlink()
    with pytest.raises(UserError, match=r"cannot be read .*max energy range"):
        EnergyMeter()


def test_zones_for_root_alone(rapl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zeus.device.cpu import common
    from zeus.device.cpu import rapl as module

    def refused(self: object, path: str) -> None:
        raise common.ZeusCPUNoPermissionError("RAPL requires root privileges")

    monkeypatch.setattr(module.RAPLFile, "__init__", refused)
    with pytest.raises(UserError, match=r"no energy counter can be read here.*as root"):
        EnergyMeter()


def test_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from zeus.device import cpu, gpu
    from zeus.monitor import energy

    class NVIDIAGPUs:
        """What the monitor asks of zeus.device.gpu.NVIDIAGPUs, which needs a driver."""

        millijoules = 5000.0

        def __len__(self) -> int:
            return 1

        def supports_get_total_energy_consumption(self, gpu_index: int) -> bool:
            return True

        def get_total_energy_consumption(self, gpu_index: int) -> float:
            return self.millijoules

    for name in ("supports_get_total_energy_consumption", "get_total_energy_consumption"):
        asked, real = (inspect.signature(getattr(kind, name)) for kind in (NVIDIAGPUs, gpu.GPUs))
        assert list(asked.parameters) == list(real.parameters)
    monkeypatch.setattr(gpu, "_gpus", NVIDIAGPUs())
    monkeypatch.setattr(cpu, "_cpus", cpu.common.EmptyCPUs())
    monkeypatch.setattr(energy, "sync_execution_fn", lambda gpus, sync_with: None)
    with EnergyMeter() as meter:
        gpu._gpus.millijoules += 7250.0
    assert meter.reading.joules == {"nvml": 7.25}
    assert meter.reading.provenance == "measured (nvml)"
