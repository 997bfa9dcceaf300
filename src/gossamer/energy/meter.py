"""Energy from the counters of processors and GPUs, where a machine has them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from gossamer.errors import UserError
from gossamer.extras import needed

_WINDOW = "gossamer"


@dataclass(frozen=True)
class Reading:
    """The counters' readings.

    Attributes:
        joules: by counter: ``rapl`` (processor packages, all that ran on them), ``rapl dram``
            where there is such a counter, ``nvml`` (GPUs; ``amdsmi`` those of AMD).
        seconds: wall time.
    """

    joules: dict[str, float]
    seconds: float

    @property
    def provenance(self) -> str:
        """``measured (rapl)``, ``measured (nvml)`` or both."""
        kinds = dict.fromkeys(name.split()[0] for name in self.joules)
        return f"measured ({', '.join(kinds)})"


def _monitor() -> Any:
    with needed("reading energy counters"):
        energy = importlib.import_module("zeus.monitor.energy")
        failure = importlib.import_module("zeus.exception").ZeusBaseError
    try:
        return energy.ZeusMonitor(approx_instant_energy=False)
    except (failure, OSError) as error:
        raise UserError(
            f"the energy counters of this machine cannot be read ({error}): fix them, or use "
            "EnergyModel, which compares counted work"
        ) from None


def _packages(monitor: Any) -> set[int]:
    """The processor packages among zeus's zones.

    Laptops have another zone, ``psys``, that counts the packages once more.
    """
    listed = monitor.cpus.cpus
    zones = {index: getattr(listed[index], "rapl_file", None) for index in monitor.cpu_indices}
    # The daemon of zeus does not name its zones.
    return {i for i, zone in zones.items() if zone is None or zone.name.startswith("package")}


def _gpu_counter(monitor: Any) -> str:
    return "amdsmi" if "AMD" in type(monitor.gpus).__name__ else "nvml"


def _available(monitor: Any) -> tuple[str, ...]:
    return (
        *(["rapl"] if _packages(monitor) else []),
        *([_gpu_counter(monitor)] if monitor.gpu_indices else []),
    )


def counters() -> tuple[str, ...]:
    """The counters of this machine: ``rapl``, ``nvml`` or ``amdsmi``.

    Raises:
        UserError: the package zeus is not installed, or counters are there but damaged.
    """
    return _available(_monitor())


class EnergyMeter:
    """Joules of what runs inside ``with``, counted by RAPL and NVML.

    RAPL counts whole processor packages: whatever else runs on the machine is counted too.

        with EnergyMeter() as meter:
            engine(x)
        meter.reading.joules["rapl"], meter.reading.provenance

    Raises:
        UserError: zeus is missing, or the machine has no counter that may be read.
    """

    reading: Reading

    def __init__(self) -> None:
        self._zeus = _monitor()
        if not _available(self._zeus):
            raise UserError(
                "no energy counter can be read here: RAPL needs Linux on a physical machine, "
                "usually as root (/sys/class/powercap), NVML an NVIDIA GPU; use EnergyModel, which "
                "compares counted work"
            )

    def __enter__(self) -> EnergyMeter:
        self._zeus.begin_window(_WINDOW, sync_execution=bool(self._zeus.gpu_indices))
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        window = self._zeus.end_window(
            _WINDOW, sync_execution=bool(self._zeus.gpu_indices), cancel=error is not None
        )
        if error is not None:
            return
        joules: dict[str, float] = {}
        packages, gpus = _packages(self._zeus), set(self._zeus.gpu_indices)
        for name, counted, zones in (
            ("rapl", window.cpu_energy, packages),
            ("rapl dram", window.dram_energy, packages),
            (_gpu_counter(self._zeus), window.gpu_energy, gpus),
        ):
            shares = [energy for zone, energy in (counted or {}).items() if zone in zones]
            if shares:
                joules[name] = float(sum(shares))
        self.reading = Reading(joules, float(window.time))
