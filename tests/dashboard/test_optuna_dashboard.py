"""optuna-dashboard beside the page: it sees the constraints, and is as safe as the page."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from optuna.storages import BaseStorage

from gossamer.dashboard.cache import stored_at
from gossamer.dashboard.optuna_dashboard import ConstraintsAsList, guarded, optuna_dashboard
from gossamer.errors import UserError
from gossamer.search import Experiment


def test_constraints_are_a_list_too(storage: str) -> None:
    inner = stored_at(storage)
    outer = ConstraintsAsList(inner)
    study = outer.get_all_studies()[0]._study_id
    trials = outer.get_all_trials(study, deepcopy=False)
    # accuracy at least 0.92, density at most 0.35
    assert trials[0]._system_attrs["constraints"] == pytest.approx([0.02, -0.25])
    assert trials[2]._system_attrs["constraints"] == pytest.approx([-0.05, -0.05])
    assert "constraints" not in trials[4]._system_attrs
    same = outer.get_trial(trials[0]._trial_id)
    assert same._system_attrs["constraints"] == trials[0]._system_attrs["constraints"]
    # What is stored stays as it was.
    kept = inner.get_all_trials(study, deepcopy=False)[0]
    assert "constraints" not in kept._system_attrs
    assert isinstance(outer, BaseStorage)


def test_a_deleted_trial_is_not_shown(storage: str) -> None:
    outer = ConstraintsAsList(stored_at(storage))
    study = outer.get_all_studies()[0]._study_id
    before = [trial.number for trial in outer.get_all_trials(study)]
    Experiment.from_storage(storage).forget(1)
    assert [trial.number for trial in outer.get_all_trials(study)] == [
        number for number in before if number != 1
    ]
    assert outer.get_n_trials(study) == len(before) - 1


def asked(write: bool, **environment: str) -> str:
    said: list[str] = []

    def application(_: object, start: Callable[..., Any]) -> list[bytes]:
        start("200 OK", [])
        return [b""]

    full = {"HTTP_HOST": "localhost:1234", "REQUEST_METHOD": "GET", **environment}
    guarded(application, write)(full, lambda status, headers: said.append(status))
    return said[0][:3]


def test_only_this_machine_and_only_reading() -> None:
    assert asked(False) == "200"
    assert asked(True, HTTP_HOST="evil.example:1234") == "403"
    assert asked(False, REQUEST_METHOD="DELETE") == "403"
    assert asked(True, REQUEST_METHOD="DELETE") == "200"
    assert asked(True, REQUEST_METHOD="POST", HTTP_ORIGIN="http://evil.example") == "403"
    assert asked(True, REQUEST_METHOD="POST", HTTP_ORIGIN="http://localhost:1234") == "200"


def test_optuna_dashboard_tells_what_is_inside(storage: str, visit: Callable[[str], Any]) -> None:
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")

    with optuna_dashboard(stored_at(storage), write=False) as address:
        page = visit(address)
        studies = page.get("/api/studies").json["study_summaries"]
        number = studies[0]["study_id"]
        trials = page.get(f"/api/studies/{number}?after=0").json["trials"]
        assert trials[0]["constraints"] == pytest.approx([0.02, -0.25])
        assert page.ask("DELETE", f"/api/studies/{number}", b"", {}).status == 403
    assert len(Experiment.from_storage(storage).trials()) == 6


def test_absence_is_named(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with (
        pytest.raises(UserError, match=r"pip install 'gossamer\[optuna-dashboard\]'"),
        optuna_dashboard(stored_at(storage), write=False),
    ):
        pass
