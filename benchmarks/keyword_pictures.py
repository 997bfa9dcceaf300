"""Keyword pictures as the experiments read them: bands before frames, also scaled to 32x32.

    python benchmarks/keyword_pictures.py speech.npz

``speech.npz`` holds log-mel pictures ``[N, frames, bands]`` of one byte a pixel as ``x_train``,
``x_validation`` and ``x_test``, labels as ``y_train``, ..., and ``classes``. Writes
``keywords.npz`` with ``[N, bands, frames]`` and, for networks of square pictures, each the mean of
the pixels that fall on it, ``keywords_32.npz`` with ``[N, 32, 32]``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

SIDE = 32


def squares(x: np.ndarray) -> np.ndarray:
    """Pictures ``[N, bands, frames]`` scaled to ``[N, 32, 32]``, uint8."""
    parts = [
        functional.adaptive_avg_pool2d(torch.from_numpy(part).float()[:, None], SIDE)[:, 0]
        for part in np.array_split(x, max(len(x) // 4096, 1))
    ]
    return torch.cat(parts).round().to(torch.uint8).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--out", type=Path, default=Path())
    arguments = parser.parse_args()
    with np.load(arguments.pictures) as stored:
        whole = {key: stored[key] for key in stored.files}
    turned = {
        key: np.ascontiguousarray(value.transpose(0, 2, 1)) if key.startswith("x_") else value
        for key, value in whole.items()
    }
    small = {
        key: squares(value) if key.startswith("x_") else value for key, value in turned.items()
    }
    np.savez(arguments.out / "keywords.npz", **turned)
    np.savez(arguments.out / "keywords_32.npz", **small)


if __name__ == "__main__":
    main()
