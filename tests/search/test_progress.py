"""The progress bar of a search."""

from tests.search.experiments import make


def test_the_progress_bar_counts(capsys):
    def train(trial):
        if trial.number == 0:
            raise ValueError("no")
        return {"accuracy": 0.5 + 0.1 * trial.number, "density": 0.1}

    make(budget=6).run(train, progress=True)
    shown = " ".join(capsys.readouterr().err.split())
    assert "6/6" in shown
    assert "1 failed" in shown
