"""The real data, where there are some."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data: GOSSAMER_DATA, or shared/data beside the repository."""
    folder = Path(os.environ.get("GOSSAMER_DATA") or _BESIDE)
    if not folder.is_dir():
        pytest.skip(f"no real data: neither GOSSAMER_DATA is set nor {_BESIDE} there")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
