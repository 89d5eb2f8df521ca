"""What the figures were measured on."""

import dataclasses
import datetime as dt
import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

LIBRARIES = ("aiortc", "aioice", "av", "pylibsrtp", "numpy", "mediapipe")


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine, and how busy it was."""

    cpu: str
    cores: int
    system: str
    python: str
    load: float
    """Processes that ran or waited to, on average over the minute before."""
    date: str
    libraries: dict[str, str]

    @classmethod
    def now(cls) -> Self:
        """Describe this machine."""
        return cls(
            cpu=_cpu(),
            cores=os.cpu_count() or 1,
            system=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
            load=round(os.getloadavg()[0], 2),
            date=dt.datetime.now().astimezone().isoformat(timespec="minutes"),
            libraries={name: importlib.metadata.version(name) for name in LIBRARIES},
        )

    def __str__(self) -> str:
        libraries = ", ".join(f"{name} {self.libraries[name]}" for name in LIBRARIES[:3])
        return (
            f"{self.cpu}, {self.cores} cores, load {self.load:g} at the start; {self.system}; "
            f"Python {self.python}, {libraries}; {self.date[:10]}"
        )

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return dataclasses.asdict(self)


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
