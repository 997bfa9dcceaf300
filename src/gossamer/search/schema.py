"""Opening of an experiment that may be stored already.

The first process stores the definition; later ones may make only changes that preserve the meaning
of its trials.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from gossamer.errors import UserError, nearest
from gossamer.search.definition import GOALS, from_mapping, in_words
from gossamer.search.trials.databases import NothingStoredError, open_storage
from gossamer.search.trials.storage import DEFINITION, Store

# Settings that decide what a trial's numbers mean: trials of two tasks cannot be compared.
_MEANING = ("task", "model")


def stored_arguments(url: str, name: str | None) -> dict[str, Any]:
    """Return the stored arguments of `Experiment`, see `stored_name`.

    Raises:
        UserError: there is no such experiment, or several and no name.
    """
    chosen = stored_name(url, name)
    stored = Store(open_storage(url, create=False), chosen, None).definition
    assert stored is not None
    return {**from_mapping(stored), "storage": url}


def stored_name(url: str, name: str | None) -> str:
    """Return the name of the experiment to open: the named one, or the only one.

    Args:
        url: the database.
        name: name of the experiment; not needed if the storage has only one.

    Raises:
        UserError: there is no such experiment, or several and no name.
    """
    stored = open_storage(url, create=False).get_all_studies()
    studies = {study.study_name: study for study in stored}
    if not studies:
        raise UserError(f"storage '{url}' has no experiment yet")
    if name is None and len(studies) > 1:
        raise UserError(
            f"storage '{url}' has several experiments; give one's name: "
            + ", ".join(sorted(studies))
        )
    chosen = next(iter(studies)) if name is None else name
    if chosen not in studies:
        raise UserError(f"storage '{url}' has no experiment '{name}'; {nearest(chosen, studies)}")
    if DEFINITION not in studies[chosen].user_attrs:
        raise UserError(f"storage '{url}': gossamer did not make the study '{chosen}'")
    return chosen


def stored_names(url: str) -> list[str]:
    """Return the names of gossamer's experiments in a storage, sorted.

    Raises:
        UserError: a storage that cannot be used.
    """
    studies = open_storage(url, create=False).get_all_studies()
    return sorted(study.study_name for study in studies if DEFINITION in study.user_attrs)


def find(url: str, name: str) -> Store | None:
    """Return the store of an experiment; None, without creating anything, if it is not stored.

    Raises:
        UserError: a storage that cannot be used.
    """
    with suppress(NothingStoredError, KeyError):
        return Store(open_storage(url, create=False), name, None)
    return None


def agree(
    store: Store, described: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return the stored definition, if there is one, and the one to store: `described`, with the
    metrics in the order in which they were first stored, which is that of Optuna's values.

    Raises:
        UserError: the trials are of another definition, or not gossamer's.
    """
    wanted = dict(described)
    name = wanted["name"]
    stored = store.definition
    if stored is None and store.frozen():
        # Whoever made the trials wrote the definition before them, maybe this very moment.
        stored = store.definition
        if stored is None:
            raise UserError(
                f"the storage has a study '{name}' that gossamer did not make; "
                "choose another name or another storage"
            )
    if stored is not None:
        differs = _difference(stored, wanted, store)
        if differs:
            raise UserError(
                f"experiment '{name}' is in the storage with another definition: "
                f"{differs}; give this one another name or storage, with warm_start to learn from "
                "those trials, or undo the change"
            )
        metrics = wanted["metrics"]
        known = {name: metrics[name] for name in stored["metrics"] if name in metrics}
        wanted["metrics"] = {**known, **metrics}
    return stored, wanted


def agree_on_data(store: Store, data: Mapping[str, str]) -> dict[str, str]:
    """Return the fingerprints to store: `data`, and the stored ones of other names.

    An experiment that has none yet is continued. Neither trials that failed nor those that wait to
    be run again tell anything about the data.

    Raises:
        UserError: trials are of other data.
    """
    stored = store.data
    changed = [name for name in data if stored.get(name, data[name]) != data[name]]
    if changed and any(r.state in ("complete", "stopped", "running") for r in store.records([])):
        raise UserError(
            f"'{changed[0]}' has other data now than the trials of experiment '{store.name}' in "
            "the storage, so that their metrics could not be compared; put the data back, or give "
            "the experiment another name or storage"
        )
    return {**stored, **data}


def _widened(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Return whether the new bounds contain the old ones, on the same grid."""
    if old["type"] != new["type"] or old["type"] not in ("float", "int"):
        return False
    if not (new["low"] <= old["low"] and old["high"] <= new["high"]):
        return False
    steps = (old["low"] - new["low"]) / old["step"] if old.get("step") else 0.0
    return math.isclose(steps, round(steps), abs_tol=1e-9)


def _difference(stored: Mapping[str, Any], wanted: Mapping[str, Any], store: Store) -> str | None:
    """Return why `stored` cannot be continued as `wanted`; None if it can.

    Thresholds, priors, budget, sampler, seed and start may change, bounds may be wider, and orders
    do not matter. Metrics may be removed, added if all trials returned them, and change between
    optimized and not; parameters may be added with a default, the value of earlier trials.
    """
    old_parameters, new_parameters = stored["parameters"], wanted["parameters"]
    for name, parameter in new_parameters.items():
        if name not in old_parameters and "default" not in parameter:
            return f"parameter '{name}' is new, without a default, the value that its trials had"
    for name in old_parameters:
        if name not in new_parameters:
            return f"parameter '{name}' is missing"
    added = sorted(wanted["metrics"].keys() - stored["metrics"].keys())
    for record in store.records(list(wanted["metrics"])) if added else ():
        lacking = [name for name in added if name not in record.values]
        if record.state == "complete" and lacking:
            return f"metric '{lacking[0]}' is new, and trial {record.number} did not return it"
    for name, new in new_parameters.items():
        old = old_parameters.get(name, new)
        if _widened(old, new):
            old = {**old, "low": new["low"], "high": new["high"]}
        for key in {**old, **new}:
            if key == "prior":  # beliefs may change; the trials mean what they meant
                continue
            if old.get(key) != new.get(key) or type(old.get(key)) is not type(new.get(key)):
                return (
                    f"parameter '{name}' has {key} = {in_words(new.get(key))}, "
                    f"its trials {in_words(old.get(key))}"
                )
    for name, new in wanted["metrics"].items():
        old = stored["metrics"].get(name, new)
        was, now = GOALS[old["goal"]], GOALS[new["goal"]]
        if (was.optimized or now.optimized) and was.goal != now.goal:
            return f"metric '{name}' has goal '{new['goal']}', in its trials '{old['goal']}'"
    old_rows, new_rows = (
        sorted((sorted(c["coefficients"].items()), c["at_most"]) for c in d["constraints"])
        for d in (stored, wanted)
    )
    if old_rows != new_rows:
        return "the constraints differ"
    old_costs, new_costs = (
        {f["name"]: f["settings"] for f in d.get("fidelity", [])} for d in (stored, wanted)
    )
    for name in old_costs.keys() & new_costs.keys():
        if old_costs[name] != new_costs[name]:
            return f"fidelity '{name}' has other settings than its trials"
    for key in _MEANING:
        old, new = stored["settings"].get(key), wanted["settings"].get(key)
        if old != new:
            return f"settings.{key} is {in_words(new)}, in its trials {in_words(old)}"
    return None
