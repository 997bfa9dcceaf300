"""A convolutional network for time series: accurate, and fast on a CPU.

After SigOpt's public example with two metrics, accuracy and inference time. The series are control
charts (Alcock and Manolopoulos 1999), which a formula makes: noise around a mean, alone or with a
cycle, a trend or a shift.
"""

from time import perf_counter

import numpy as np
import torch
from torch import nn

import gossamer as gs

LENGTH, CLASSES = 60, 6


def charts(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Series [6 count, 1, 60], and their classes."""
    rng = np.random.default_rng(seed)
    t = np.arange(LENGTH)

    def uniform(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (count, 1))

    def shift() -> np.ndarray:
        return uniform(7.5, 20) * (t >= uniform(LENGTH / 3, 2 * LENGTH / 3))

    def trend() -> np.ndarray:
        return uniform(0.2, 0.5) * t

    cycle = uniform(10, 15) * np.sin(2 * np.pi * t / uniform(10, 15))
    signals = [np.zeros((count, LENGTH)), cycle, trend(), -trend(), shift(), -shift()]
    noise = 2 * rng.uniform(-3, 3, (CLASSES, count, LENGTH))
    x = (np.stack(signals) + noise).reshape(-1, 1, LENGTH) / 10
    y = np.repeat(np.arange(CLASSES), count)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


TRAIN, VALIDATION = charts(50, seed=0), charts(50, seed=1)


def train(trial: gs.search.Trial) -> dict[str, float]:
    width, kernel = trial.parameters["width"], trial.parameters["kernel"]
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(1, width, kernel, padding="same"),
        nn.ReLU(),
        nn.MaxPool1d(4),
        nn.Conv1d(width, 2 * width, kernel, padding="same"),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(2 * width, CLASSES),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=trial.parameters["learning_rate"])
    x, y = TRAIN
    for _ in range(6):
        for batch in torch.randperm(len(x)).split(32):
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    x, y = VALIDATION
    with torch.no_grad():
        accuracy = (model(x).argmax(1) == y).double().mean().item()
    return {"accuracy": accuracy, "microseconds": microseconds(model, x[:1])}


def microseconds(model: nn.Module, example: torch.Tensor) -> float:
    """The median time of one inference."""
    times = []
    for _ in range(200):
        start = perf_counter()
        with torch.inference_mode():
            model(example)
        times.append(perf_counter() - start)
    return 1e6 * float(np.median(times))


if __name__ == "__main__":
    experiment = gs.Experiment(
        "charts",
        parameters=[
            gs.Int("width", 2, 32, log=True),
            gs.Int("kernel", 3, 15, step=2),
            gs.Float("learning_rate", 1e-4, 0.1, log=True),
        ],
        metrics=[
            gs.Maximize("accuracy", threshold=0.9),
            gs.Minimize("microseconds", threshold=500),
        ],
        budget=10,
    )
    experiment.run(train)
    frontier = experiment.frontier()
    print("inside the thresholds:" if frontier.feasible else "nearest to the thresholds:")
    for trial in frontier.trials:
        print(trial.parameters, trial.values)
