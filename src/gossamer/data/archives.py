"""Reading ``.npz`` archives of plain arrays."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an ``.npz`` file and verify its checksums; no pickle.

    Raises OSError if it cannot be read, and ValueError with the reason if it is damaged, no
    archive, or has arrays of objects.
    """
    with path.open("rb") as file:  # opened here: numpy leaves a damaged archive open
        try:
            if file.read(2) != b"PK":
                raise ValueError("no archive")
            file.seek(0)
            archive = np.load(file, allow_pickle=False)
            return {key: archive[key] for key in archive.files}
        except (EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(str(error) or "empty") from error
