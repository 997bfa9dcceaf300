"""Published figures that results are compared with: each once, with its source.

A figure belongs to the network of its source, not to one of the same name here: ``network`` says
which that is, and ``ours`` names the reference network of this project where it is the same one.
"""

from __future__ import annotations

from dataclasses import dataclass

PAPER = "Ahmad & Scheinkman 2019, arXiv 1903.11257, table 3"
LIBRARY = "the authors' later library nupic.torch"
SEARCH = "the original search, 1,000 trials, evaluated on the test set of Speech Commands v0.01"
BC_RESNET = "Kim et al. 2021, arXiv 2106.04140"
SPARKNET = "arXiv 2406.06634"


@dataclass(frozen=True)
class Published:
    """A network as its source states it; None for what the source does not give.

    Attributes:
        task, network: as the source names them.
        source: paper, table or program.
        ours: (task, model) of the same network here.
        accuracy, deviation: on the test split, in %, and its standard deviation over seeds.
        score, score_deviation, scored: correct answers over eleven noise levels, of how many.
        nonzero: non-zero weights, or parameters of a dense network.
        macs: multiply-adds of an inference, as the source counts them.
        note: a reservation.
    """

    task: str
    network: str
    source: str
    ours: tuple[str, str] | None = None
    accuracy: float | None = None
    deviation: float | None = None
    score: int | None = None
    score_deviation: int | None = None
    scored: int | None = None
    nonzero: int | None = None
    macs: float | None = None
    note: str = ""

    def shown_accuracy(self) -> str:
        """Such as ``99.31 ± 0.06``."""
        return _spread(self.accuracy, self.deviation, 2)

    def shown_score(self) -> str:
        """Such as ``97,040 ± 2,853 of 110,000``."""
        of = f" of {self.scored:,}" if self.scored else ""
        return _spread(self.score, self.score_deviation, 0) + of


def _spread(value: float | None, deviation: float | None, digits: int) -> str:
    if value is None:
        return "–"
    return f"{value:,.{digits}f}" + ("" if deviation is None else f" ± {deviation:,.{digits}f}")


_MNIST, _SPEECH = "MNIST", "Speech Commands v0.01, 12 classes"
_V2 = "Speech Commands v0.02, 12 classes"
_COUNTED = "weights counted from its settings"
TABLE: tuple[Published, ...] = (
    Published(
        *(_MNIST, "dense CNN-2", PAPER, ("mnist", "image_cnn")),
        accuracy=99.31,
        deviation=0.06,
        score=97_040,
        score_deviation=2_853,
        scored=110_000,
    ),
    Published(
        *(_MNIST, "sparse CNN-2", PAPER, ("mnist", "image_cnn_sparse")),
        accuracy=99.09,
        deviation=0.05,
        score=103_764,
        score_deviation=1_125,
        scored=110_000,
    ),
    Published(
        *(_SPEECH, "dense CNN-2", PAPER, ("speech_commands", "speech_cnn")),
        accuracy=96.37,
        deviation=0.37,
        score=8_730,
        scored=28_072,
    ),
    Published(
        *(_SPEECH, "sparse CNN-2", PAPER),
        accuracy=96.65,
        deviation=0.21,
        score=11_233,
        scored=28_072,
        nonzero=756_000,
        note=_COUNTED,
    ),
    Published(
        *(_SPEECH, "super-sparse CNN-2", PAPER),
        accuracy=96.57,
        deviation=0.16,
        score=10_752,
        scored=28_072,
        nonzero=362_000,
        note=_COUNTED,
    ),
    Published(
        *(_SPEECH, "sparse CNN-2", LIBRARY, ("speech_commands", "speech_cnn_sparse")),
        nonzero=193_248,
        macs=2.85e6,
    ),
    Published(
        *(_SPEECH, "super-sparse CNN-2", LIBRARY, ("speech_commands", "speech_cnn_super_sparse")),
        nonzero=159_248,
    ),
    Published(_SPEECH, "tuned dense CNN-2", SEARCH, accuracy=97.37, nonzero=1_716_000),
    Published(_SPEECH, "most accurate CNN-2", SEARCH, accuracy=97.65, nonzero=572_600),
    Published(
        _SPEECH,
        "CNN-2, most accurate inside the thresholds",
        SEARCH,
        accuracy=97.53,
        nonzero=167_696,
    ),
    Published(
        _SPEECH, "CNN-2, smallest inside the thresholds", SEARCH, accuracy=96.67, nonzero=11_410
    ),
    Published(
        *(_V2, "BC-ResNet-8", BC_RESNET),
        accuracy=98.7,
        nonzero=321_000,
        macs=89e6,
        note="sizes not checked against the paper",
    ),
    Published(
        *(_V2, "BC-ResNet-1", f"{BC_RESNET}, as repeated in {SPARKNET}"),
        accuracy=96.9,
        deviation=0.3,
        nonzero=9_232,
        macs=3.6e6,
    ),
    Published(
        *(_V2, "SparkNet, 32 channels", SPARKNET),
        accuracy=97.0,
        deviation=0.2,
        nonzero=11_500,
        macs=1.2e6,
    ),
    Published(*(_V2, "SparkNet, 16 channels", SPARKNET), accuracy=95.7, nonzero=4_636, macs=0.45e6),
    Published(
        *(_V2, "BC-ResNet-0.625", SPARKNET),
        accuracy=95.4,
        nonzero=4_585,
        macs=1.9e6,
    ),
    Published(
        *(_SPEECH, "TC-ResNet8", "Choi et al. 2019, arXiv 1904.03814"),
        accuracy=96.1,
        nonzero=66_000,
        note="accuracy not checked against the paper",
    ),
)
#: The entries whose network is a reference network here, by task and model.
OURS = {entry.ours: entry for entry in TABLE if entry.ours is not None}
