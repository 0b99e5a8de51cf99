"""The feature classifier and its cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier

from scratchgen import metrics
from scratchgen.metrics import classifier as module


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    """Three classes of 4x4 images, each bright in its own corner."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 150)
    x = 0.3 * rng.random((150, 4, 4))
    x[np.arange(150), labels, labels] += 0.6
    return x.astype(np.float32), labels


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Shortens training to a few passes and lists the trainings that took place."""
    made: list[str] = []
    monkeypatch.setattr(module, "PASSES", (30, 30))
    fit = metrics.FeatureClassifier.fit.__func__  # type: ignore[attr-defined]

    def counted(cls: type, *args: object) -> metrics.FeatureClassifier:
        made.append("trained")
        return fit(cls, *args)

    monkeypatch.setattr(metrics.FeatureClassifier, "fit", classmethod(counted))
    return made


def test_is_the_network_that_was_trained(images, monkeypatch) -> None:
    """Features and probabilities against the library's own forward pass."""
    networks: list[MLPClassifier] = []
    fit = MLPClassifier.fit
    monkeypatch.setattr(MLPClassifier, "fit", lambda self, x, y: networks.append(self) or fit(self, x, y))
    monkeypatch.setattr(module, "PASSES", (30, 30))
    x, labels = images
    classifier = metrics.FeatureClassifier.fit(x, labels + 5)
    flat = x.reshape(150, -1)
    assert classifier.predict_proba(x) == pytest.approx(networks[0].predict_proba(flat), abs=1e-5)
    assert (classifier.predict(x) == networks[0].predict(flat)).all()
    assert classifier.accuracy(x, labels + 5) > 0.95
    features = classifier.features(x)
    assert features.shape == (150, 64)
    assert (features >= 0).all()


def test_is_trained_once_and_then_read(images, trainings, tmp_path: Path) -> None:
    first = metrics.feature_classifier("three corners/v1", *images, cache=tmp_path)
    again = metrics.feature_classifier("three corners/v1", *images, cache=tmp_path)
    assert trainings == ["trained"]
    assert (first.features(images[0]) == again.features(images[0])).all()
    assert (again.classes == [0, 1, 2]).all()
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("three-corners-v1-")


def test_training_is_deterministic(images, trainings, tmp_path: Path) -> None:
    a, b = (metrics.feature_classifier("x", *images, cache=tmp_path / name) for name in "ab")
    assert len(trainings) == 2
    assert (a.features(images[0]) == b.features(images[0])).all()


@pytest.mark.parametrize("change", ["data", "labels", "seed", "settings", "version"])
def test_anything_that_changes_the_figures_changes_the_file(images, trainings, tmp_path, monkeypatch, change) -> None:
    x, labels = images
    metrics.feature_classifier("x", x, labels, cache=tmp_path)
    if change == "settings":
        monkeypatch.setattr(module, "WEIGHT_DECAY", 0.5)
    if change == "version":
        monkeypatch.setattr(module.sklearn, "__version__", "99.0")
    metrics.feature_classifier(
        "x",
        x + (change == "data") * np.float32(1e-3),
        np.roll(labels, change == "labels"),
        seed=int(change == "seed"),
        cache=tmp_path,
    )
    assert len(trainings) == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_file_is_replaced(images, trainings, tmp_path: Path) -> None:
    metrics.feature_classifier("x", *images, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for damage in (b"", whole[:1000], b"not a zip archive"):
        file.write_bytes(damage)
        metrics.feature_classifier("x", *images, cache=tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [file.name]
        assert len(file.read_bytes()) == len(whole)
    assert len(trainings) == 4


def test_a_folder_that_cannot_be_written_costs_only_time(images, trainings, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.warns(UserWarning, match="could not be kept"):
        classifier = metrics.feature_classifier("x", *images, cache=blocked)
    assert classifier.accuracy(*images) > 0.9


def test_the_cache_of_the_user(images, trainings, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    metrics.feature_classifier("x", *images)
    assert len(list((tmp_path / "scratchgen" / "classifiers").glob("x-*.npz"))) == 1


def test_arguments_are_checked(images) -> None:
    x, labels = images
    with pytest.raises(
        ValueError, match=r"one integer label an image .* got labels int64 of shape \(10,\) for 150 images"
    ):
        metrics.FeatureClassifier.fit(x, labels[:10])
    with pytest.raises(ValueError, match="at least 3 classes"):
        metrics.FeatureClassifier.fit(x, np.zeros(150, int))
    classifier = metrics.FeatureClassifier((np.ones((16, 64)),), (np.zeros(64),), np.arange(64))
    with pytest.raises(ValueError, match=r"takes images of 16 values, got shape \(2, 5\)"):
        classifier.features(np.ones((2, 5)))
