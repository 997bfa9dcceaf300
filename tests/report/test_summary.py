"""The summary in sentences."""

from __future__ import annotations

from report_fakes import pair, run

from gossamer.report.summary import sentences, warnings


def test_synthetic_data_is_noted() -> None:
    said = warnings({"a": run(synthetic=True, task="spoken_words")})
    assert len(said) == 1
    assert said[0].startswith("Synthetic data")
    assert "spoken_words" in said[0]
    assert warnings(pair()) == []


def test_sentence_names_accuracy_and_both_gains() -> None:
    assert sentences(pair()) == [
        "The sparse network reaches 96.90 % test accuracy (dense: 97.30 %) with "
        "8.9× fewer non-zero weights and 8.5× fewer non-zero multiply-adds."
    ]
    assert sentences({"sparse": run()}) == [
        "The sparse network reaches 96.90 % test accuracy "
        "with 193,280 of 1,716,000 weights non-zero."
    ]
    assert sentences({}) == []
    assert sentences({"a": {}, "b": {}}) == []
    three = sentences({**pair(), "smaller": run()})
    assert [sentence.split()[1] for sentence in three] == ["sparse", "smaller"]
