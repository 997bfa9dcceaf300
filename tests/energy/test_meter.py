"""The meter with a stand-in for zeus, since test machines rarely have counters."""

import sys
import types
from typing import ClassVar

import pytest

from gossamer.energy import EnergyMeter, counters
from gossamer.errors import UserError


class NVIDIAGPUs:
    pass


class AMDGPUs:
    pass


class ZeusBaseError(Exception):
    pass


def zone(name):
    return types.SimpleNamespace(rapl_file=types.SimpleNamespace(name=name))


class Monitor:
    """Answers as zeus.monitor.energy.ZeusMonitor does."""

    cpus = types.SimpleNamespace(cpus=[zone("package-0"), zone("package-1"), zone("psys")])
    cpu_indices: ClassVar[list[int]] = []
    gpu_indices: ClassVar[list[int]] = []
    gpus = NVIDIAGPUs()
    found = types.SimpleNamespace(cpu_energy=None, dram_energy=None, gpu_energy={}, time=2.0)

    def __init__(self, approx_instant_energy):
        assert approx_instant_energy is False  # power times time is no counter
        self.calls = []

    def begin_window(self, key, sync_execution):
        self.calls.append(("begin", key, sync_execution))

    def end_window(self, key, sync_execution, cancel):
        self.calls.append(("end", key, sync_execution, cancel))
        return self.found


@pytest.fixture
def zeus(monkeypatch):
    def make(**values):
        module = types.ModuleType("zeus.monitor.energy")
        module.ZeusMonitor = type("ZeusMonitor", (Monitor,), values)
        monkeypatch.setitem(sys.modules, "zeus", types.ModuleType("zeus"))
        monkeypatch.setitem(sys.modules, "zeus.monitor", types.ModuleType("zeus.monitor"))
        monkeypatch.setitem(sys.modules, "zeus.monitor.energy", module)
        errors = types.ModuleType("zeus.exception")
        errors.ZeusBaseError = ZeusBaseError
        monkeypatch.setitem(sys.modules, "zeus.exception", errors)

    return make


def test_processor_and_gpu(zeus):
    zeus(
        cpu_indices=[0, 1],
        gpu_indices=[0],
        found=types.SimpleNamespace(
            cpu_energy={0: 1.5, 1: 2.0}, dram_energy={0: 0.25}, gpu_energy={0: 7.0}, time=3.0
        ),
    )
    assert counters() == ("rapl", "nvml")
    with EnergyMeter() as meter:
        pass
    assert meter.reading.joules == {"rapl": 3.5, "rapl dram": 0.25, "nvml": 7.0}
    assert meter.reading.seconds == 3.0
    assert meter.reading.provenance == "measured (rapl, nvml)"


def test_no_waiting_for_a_gpu_that_is_not_there(zeus):
    zeus(
        cpu_indices=[0],
        found=types.SimpleNamespace(cpu_energy={0: 1.0}, dram_energy=None, gpu_energy={}, time=1.0),
    )
    with EnergyMeter() as meter:
        pass
    assert meter.reading.joules == {"rapl": 1.0}
    assert meter.reading.provenance == "measured (rapl)"
    assert [call[2] for call in meter._zeus.calls] == [False, False]


def test_a_zone_that_holds_the_packages_is_not_added_to_them(zeus):
    joules = {0: 1.5, 1: 2.0, 2: 40.0}
    found = types.SimpleNamespace(cpu_energy=joules, dram_energy={2: 1.0}, gpu_energy={}, time=1.0)
    zeus(cpu_indices=[0, 1, 2], found=found)
    with EnergyMeter() as meter:
        pass
    assert meter.reading.joules == {"rapl": 3.5}


def test_zones_of_the_daemon_have_no_names(zeus):
    found = types.SimpleNamespace(cpu_energy={0: 2.5}, dram_energy=None, gpu_energy={}, time=1.0)
    daemon = types.SimpleNamespace(cpus=[types.SimpleNamespace(dram_available=False)])
    zeus(cpu_indices=[0], cpus=daemon, found=found)
    with EnergyMeter() as meter:
        pass
    assert meter.reading.joules == {"rapl": 2.5}


def test_an_amd_gpu_is_not_called_nvml(zeus):
    zeus(gpu_indices=[0], gpus=AMDGPUs())
    assert counters() == ("amdsmi",)


def test_an_error_inside_passes_and_leaves_no_reading(zeus):
    zeus(cpu_indices=[0])
    meter = EnergyMeter()
    with pytest.raises(KeyError), meter:
        raise KeyError
    assert meter._zeus.calls[-1] == ("end", "gossamer", False, True)
    assert not hasattr(meter, "reading")


def test_no_counter_is_one_clear_error(zeus):
    zeus()
    assert counters() == ()
    with pytest.raises(UserError, match=r"no energy counter can be read here.*EnergyModel"):
        EnergyMeter()


def test_damaged_counters_are_one_clear_error(zeus):
    def broken(self, approx_instant_energy):
        raise ZeusBaseError("Error reading package name")

    zeus(__init__=broken)
    with pytest.raises(UserError, match=r"cannot be read \(Error reading package name\): fix"):
        EnergyMeter()


def test_without_zeus_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "zeus", None)
    monkeypatch.setitem(sys.modules, "zeus.monitor.energy", None)
    with pytest.raises(UserError, match=r"pip install 'gossamer\[energy\]'"):
        EnergyMeter()
