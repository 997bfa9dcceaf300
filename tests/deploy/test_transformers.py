"""Text models of Hugging Face's transformers, exported with a dynamic batch, run whole."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gossamer.runtime import Engine

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))
import networks


def build(name: str) -> nn.Module:
    """Two random layers of 32 by the class of that name."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    settings = {"vocab_size": 100}
    match name:
        case "Bert":
            kind = transformers.BertForSequenceClassification
            settings |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
            settings |= {"intermediate_size": 64, "max_position_embeddings": 32}
        case "DistilBert":
            kind = transformers.DistilBertForSequenceClassification
            settings |= {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
        case _:
            kind = transformers.GPT2LMHeadModel
            settings |= {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32}
            settings |= {"use_cache": False}
    return kind(kind.config_class(**settings))


class Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.model(input_ids=ids, attention_mask=mask).logits


def export(model: nn.Module, given: tuple[Tensor, ...], dynamo: bool) -> bytes:
    file = io.BytesIO()
    if dynamo:
        sizes = ({0: torch.export.Dim.DYNAMIC},) * 2
        torch.onnx.export(model, given, file, dynamo=True, dynamic_shapes=sizes, verbose=False)
    else:
        names = ["ids", "mask"]
        torch.onnx.export(
            model, given, file, dynamo=False, opset_version=18, input_names=names,
            output_names=["y"], dynamic_axes={name: {0: "batch"} for name in [*names, "y"]},
        )  # fmt: skip
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dynamo"),
    [("Bert", False), ("Bert", True), ("DistilBert", False), ("DistilBert", True), ("Gpt2", True)],
)
def test_text_models_run_whole(name: str, dynamo: bool) -> None:
    torch.manual_seed(0)
    model = Logits(build(name)).eval()
    ids = torch.randint(0, 100, (4, 12))
    mask = (torch.arange(12) < torch.tensor([[12], [7], [1], [10]])).long()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters
        file = export(model, (ids[:2], mask[:2]), dynamo)
    engine = Engine(file, threads=1)
    for batch in (1, 4):
        given = ids[:batch].numpy(), mask[:batch].numpy()
        wanted = networks.reference(file, *given)
        np.testing.assert_allclose(engine(*given), wanted, rtol=1e-4, atol=1e-5)
