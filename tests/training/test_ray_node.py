"""Measurements on a chosen node of a Ray cluster."""

import numpy as np
import pytest
from tests.training.test_measure import X, exported

from gossamer.deploy import MeasureSettings
from gossamer.errors import UserError
from gossamer.runtime import Plan
from gossamer.runtime.importer import read
from gossamer.training import ray_node
from gossamer.training.measure import measure

pytestmark = [
    pytest.mark.slow,
    pytest.mark.serial,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def cluster(monkeypatch):
    """A node for trials and one for measurements, on which no trial finds room."""
    utilities = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed")
    import ray

    monkeypatch.setenv("RAY_DEDUP_LOGS", "0")
    made = utilities.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=0, node_name="target")
    made.wait_for_nodes()
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield ray
    finally:
        ray.shutdown()
        made.shutdown()


def test_the_target_measures_and_the_others_train(cluster, tmp_path, monkeypatch):
    """Files travel with the call, the reference too, and the plan travels back."""
    model, dense = exported(tmp_path / "m.onnx"), exported(tmp_path / "dense.onnx", 1.0)
    settings = MeasureSettings(measure_on="target", dense_reference=str(dense))
    plan = tmp_path / "plan.json"

    @cluster.remote(num_cpus=1)
    def trial():
        return measure(model, X, settings, plan)

    found = cluster.get(trial.remote())
    assert found["deployed"]["reference"] == str(dense)
    assert found["deployed"]["speedup"] > 0
    assert found["file_bytes"] == model.stat().st_size
    assert Plan.load(plan, read(model), found["engine"]["isa"])[0] is not None

    def where(*_):
        import ray

        return ray.get_runtime_context().get_node_id(), None

    with monkeypatch.context() as patch:
        patch.setattr(ray_node, "_measure", where)
        names = {node["NodeID"]: node["NodeName"] for node in cluster.nodes()}
        assert names[measure(model, X, settings)] == "target"
    with pytest.raises(UserError, match=r"no node 'elsewhere', but .*target"):
        measure(model, X, MeasureSettings(measure_on="elsewhere"))
    with pytest.raises(UserError, match=r"none\.onnx"):
        measure(model, X, MeasureSettings(measure_on="target", dense_reference="none.onnx"))
    (tmp_path / "run").mkdir()
    empty = MeasureSettings(measure_on="target", dense_reference=str(tmp_path / "run"))
    with pytest.raises(UserError, match="dense_reference: no file"):
        measure(model, X, empty)


def test_without_a_cluster_the_message_says_so(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    model = exported(tmp_path / "m.onnx")
    with pytest.raises(UserError, match="a node of a Ray cluster, and none runs here"):
        measure(model, np.array(X), MeasureSettings(measure_on="target"))
