"""Pictures: the right pixels at the right place, whole files or none, nothing global touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scratchgen import viz
from scratchgen.viz import curves, images, style
from scratchgen.viz.sheet import MARGIN, Sheet


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def _every_picture(folder: Path) -> list[Path]:
    """One picture of each public function."""
    rng = np.random.default_rng(0)
    x, points = rng.random((6, 1, 8, 8)), rng.standard_normal((50, 2))
    return [
        viz.image_grid(folder / "grid.png", x),
        viz.reconstructions(folder / "reconstructions.png", x, x),
        viz.interpolation_grid(folder / "interpolation.png", x.reshape(2, 3, 8, 8)),
        viz.film_strip(folder / "film.png", x.reshape(2, 3, 8, 8), ["t = 2", "t = 1", "t = 0"]),
        viz.latent_manifold(folder / "manifold.png", x.reshape(2, 3, 8, 8), [-1, 0, 1], [0, 1]),
        viz.loss_curves(folder / "loss.png", [{"step": i, "loss": 1.0 / (i + 1)} for i in range(5)]),
        viz.lines(folder / "lines.png", [0, 1], {"p": {"a": [1, 2], "b": [2, 1]}, "q": {"c": [1, 9]}}, label="x"),
        viz.trade_off(folder / "trade.png", {"a": ([0, 1], [0, 2]), "b": ([0, 2, 3], [0, 1, 2])}, x="cost", y="gain"),
        viz.scatter(folder / "scatter.png", points, np.arange(50) % 3, ["a", "b", "c"]),
        viz.samples_2d(folder / "samples.png", {"data": points, "model": points}, centres=[[0, 0]]),
        viz.density_2d(folder / "density.png", {"f": lambda p: np.exp(-(p**2).sum(1))}, (-2, 2, -2, 2), samples=points),
        viz.histogram(folder / "histogram.png", {"a": points[:, 0], "b": points[:, 1]}),
        viz.attention_map(folder / "attention.png", rng.random((3, 4)), list("abc"), list("defg")),
    ]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return _every_picture(tmp_path_factory.mktemp("pictures"))


class TestFiles:
    def test_every_function_writes_a_picture_of_sensible_size(self, pictures) -> None:
        assert len(pictures) == len(viz.__all__)
        for path in pictures:
            height, width, _ = _pixels(path).shape
            assert 60 < height < 1000, path
            assert 100 < width < 1400, path
            assert np.ptp(_pixels(path)) > 100, path
        assert sorted(pictures[0].parent.iterdir()) == sorted(pictures)

    def test_the_same_picture_is_the_same_bytes(self, pictures, tmp_path) -> None:
        again = _every_picture(tmp_path / "made" / "on demand")
        assert [path.read_bytes() for path in again] == [path.read_bytes() for path in pictures]

    def test_a_failure_leaves_the_old_picture(self, tmp_path, monkeypatch) -> None:
        path = viz.image_grid(tmp_path / "x.png", np.zeros((1, 8, 8)))
        before = path.read_bytes()

        def full(self: Image.Image, file: Path, **_: object) -> None:
            file.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Image.Image, "save", full)
        with pytest.raises(OSError, match="No space left"):
            viz.image_grid(path, np.ones((1, 8, 8)))
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_only_png(self, tmp_path) -> None:
        with pytest.raises(ValueError, match=r"give a path that ends in \.png, not .*x\.jpg"):
            viz.image_grid(tmp_path / "x.jpg", np.zeros((1, 8, 8)))

    def test_no_global_state(self) -> None:
        """In a fresh interpreter: pyplot is never imported, settings stay as they were."""
        code = (
            "import sys, matplotlib, tempfile, numpy as np; from scratchgen import viz;"
            "before = matplotlib.rcParams.copy(); d = tempfile.mkdtemp();"
            "viz.scatter(d + '/a.png', np.zeros((3, 2))); viz.image_grid(d + '/b.png', np.zeros((3, 8, 8)));"
            "viz.loss_curves(d + '/c.png', [{'step': 1, 'loss': 2.0}]);"
            "same = all(matplotlib.rcParams[key] == before[key] for key in before if key != 'backend');"
            "print('matplotlib.pyplot' in sys.modules, same)"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert result.stdout.split() == ["False", "True"]


class TestImages:
    def test_each_pixel_becomes_a_square_at_its_place(self, tmp_path) -> None:
        x = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
        picture = _pixels(viz.image_grid(tmp_path / "x.png", x, columns=3, scale=4))
        assert picture.shape == (2 * 32 + 2 + 2 * MARGIN, 3 * 32 + 2 * 2 + 2 * MARGIN, 3)
        for i in range(6):
            top, left = MARGIN + i // 3 * 34, MARGIN + i % 3 * 34
            cell = picture[top : top + 32, left : left + 32]
            assert (cell == np.kron(x[i], np.ones((4, 4), int))[:, :, None]).all()
        assert (picture[:MARGIN] == 255).all()
        assert (picture[MARGIN + 32 : MARGIN + 34] == 255).all()

    def test_colour_channels(self, tmp_path) -> None:
        x = np.zeros((1, 3, 8, 8))
        x[0, 0], x[0, 2] = 1.0, 0.5
        picture = _pixels(viz.image_grid(tmp_path / "x.png", x, scale=1))
        assert (picture[MARGIN:-MARGIN, MARGIN:-MARGIN] == [255, 0, 128]).all()

    @pytest.mark.parametrize(("side", "factor"), [(8, 6), (28, 2), (32, 2), (64, 1), (5, 10)])
    def test_small_images_are_enlarged_to_be_legible(self, tmp_path, side, factor) -> None:
        picture = _pixels(viz.image_grid(tmp_path / "x.png", np.zeros((1, side, side))))
        assert picture.shape[0] == side * factor + 2 * MARGIN

    def test_floats_are_clipped_and_rounded(self) -> None:
        got = images.to_pixels(np.array([[[-0.5, 0.0, 0.1, 0.5, 1.0, 1.7]]], np.float32), 1)
        assert got[0, 0, :, 0].tolist() == [0, 0, 26, 128, 255, 255]
        assert images.to_pixels(np.array([[[True, False]]]), 1)[0, 0, :, 2].tolist() == [255, 0]

    def test_columns_default_to_a_square_and_a_short_last_row_stays_white(self, tmp_path) -> None:
        picture = _pixels(viz.image_grid(tmp_path / "x.png", np.zeros((7, 48, 48))))
        assert picture.shape[:2] == (3 * 50 - 2 + 2 * MARGIN, 3 * 50 - 2 + 2 * MARGIN)
        assert (picture[-MARGIN - 40 :, MARGIN + 60 :] == 255).all()

    def test_pairs_stand_above_each_other_in_blocks(self, tmp_path) -> None:
        black, white = np.zeros((4, 48, 48)), np.full((4, 48, 48), 0.5)
        picture = _pixels(viz.reconstructions(tmp_path / "x.png", black, white, columns=2))
        column = picture[:, -MARGIN - 20, 0]  # through the right images, away from labels
        changes = np.flatnonzero(np.diff(column)) + 1
        assert column[changes].tolist() == [0, 255, 128, 255, 0, 255, 128, 255]
        assert np.diff(changes).tolist() == [48, 2, 48, 10, 48, 2, 48]

    def test_ends_of_interpolations_are_framed(self, tmp_path) -> None:
        picture = _pixels(viz.interpolation_grid(tmp_path / "x.png", np.zeros((1, 4, 48, 48))))
        accent = [int(style.ACCENT[i : i + 2], 16) for i in (1, 3, 5)]
        framed = np.flatnonzero((picture == accent).all(2).any(0))
        step = 48 + 8
        expected = [*range(MARGIN - 2, MARGIN + 50), *range(MARGIN + 3 * step - 2, MARGIN + 3 * step + 50)]
        assert framed.tolist() == expected

    def test_labels_fit_their_columns(self) -> None:
        row = np.zeros((4, 8, 8, 3), np.uint8)
        names = ["t = 1000", "t = 500", "t = 250", "t = 0"]
        sheet = Sheet([row], None, names)
        assert sheet._cell_width + sheet.gap >= sheet._widest_label + 6
        assert sheet._factor > Sheet([row])._factor

    def test_labels_do_not_touch_the_images(self, tmp_path) -> None:
        x = np.full((2, 2, 8, 8), 0.5)
        plain = _pixels(viz.film_strip(tmp_path / "plain.png", x))
        labelled = _pixels(viz.film_strip(tmp_path / "labels.png", x, ["one", "two"], row_labels=["a", "b"], title="T"))
        side = plain[MARGIN:-MARGIN, MARGIN:-MARGIN]
        height, width, _ = side.shape
        assert (labelled[-MARGIN - height : -MARGIN, -MARGIN - width : -MARGIN] == side).all()
        above, left = labelled[: -MARGIN - height], labelled[-MARGIN - height :, : -MARGIN - width]
        assert (above < 255).any()
        assert (left < 255).any()
        assert (above[-3:] == 255).all()
        assert (left[:, -3:] == 255).all()

    def test_a_long_title_widens_the_page(self, tmp_path) -> None:
        picture = _pixels(viz.image_grid(tmp_path / "x.png", np.zeros((1, 8, 8)), title="A rather long title"))
        assert (picture[:, -MARGIN:] == 255).all()
        assert picture.shape[1] > 150

    def test_planes_have_no_gaps(self, tmp_path) -> None:
        picture = _pixels(viz.latent_manifold(tmp_path / "x.png", np.full((3, 4, 48, 48), 0.5)))
        assert (picture[MARGIN:-MARGIN, MARGIN:-MARGIN] == 128).all()

    def test_arguments_are_checked(self, tmp_path) -> None:
        path = tmp_path / "x.png"
        with pytest.raises(ValueError, match=r"must be \(N, H, W\) or \(N, 1 or 3, H, W\), got shape \(8, 8\)"):
            viz.image_grid(path, np.zeros((8, 8)))
        with pytest.raises(ValueError, match=r"got shape \(2, 4, 8, 8\)"):
            viz.image_grid(path, np.zeros((2, 4, 8, 8)))
        with pytest.raises(ValueError, match=r"\(rows, columns, H, W\)"):
            viz.film_strip(path, np.zeros((2, 8, 8)))
        with pytest.raises(ValueError, match="hold NaN: 1 of 64 values"):
            viz.image_grid(path, np.where(np.arange(64) == 3, np.nan, 0.0).reshape(1, 8, 8))
        with pytest.raises(ValueError, match="uint8 or bool, not int64"):
            viz.image_grid(path, np.zeros((1, 8, 8), np.int64))
        with pytest.raises(ValueError, match="2 columns need 2 column labels, got 3"):
            viz.film_strip(path, np.zeros((1, 2, 8, 8)), ["a", "b", "c"])
        with pytest.raises(ValueError, match=r"differ: \(2, 8, 8\) and \(3, 8, 8\)"):
            viz.reconstructions(path, np.zeros((2, 8, 8)), np.zeros((3, 8, 8)))
        assert not path.exists()


class TestCurves:
    def test_metrics_of_training_and_validation_share_a_panel(self) -> None:
        records = [
            {"step": 1, "loss": 3.0, "kl": 1.0},
            {"step": 1, "validation_loss": 4.0, "val_kl": np.float32(2.0)},
            {"step": 2, "loss": float("nan"), "note": "text", "validation_mse": 0.1, "kl": True},
        ]
        assert curves._metrics(records, "step") == ["loss", "kl", "note", "mse"]
        training, validation = curves._curves(records, "step", "loss")
        assert (training.is_validation, training.at.tolist(), training.value.tolist()) == (False, [1.0], [3.0])
        assert (validation.is_validation, validation.value.tolist()) == (True, [4.0])
        assert [c.is_validation for c in curves._curves(records, "step", "mse")] == [True]
        assert curves._curves(records, "step", "note") == []

    def test_smoothing_removes_noise_without_lag(self) -> None:
        at = np.linspace(0, 1, 1000)
        truth = 5 - 3 * at
        noisy = truth + 0.5 * np.random.default_rng(0).standard_normal(1000)
        smooth = curves._Curve(False, at, noisy).smoothed()
        assert np.abs(smooth - truth)[50:-50].max() < 0.5
        assert np.std((smooth - truth)[50:-50]) < 0.15
        assert abs((smooth - truth)[50:-50].mean()) < 0.03
        straight = curves._Curve(False, at, np.full(1000, 7.0)).smoothed()
        assert straight == pytest.approx(np.full(1000, 7.0))

    def test_a_spike_does_not_flatten_the_rest(self) -> None:
        value = np.linspace(2, 1, 500)
        value[0] = 1e6
        low, high = curves._limits([curves._Curve(False, value, value)])
        assert 0.8 < low < 1.0
        assert 2.0 < high < 2.2

    def test_short_curves_are_shown_whole(self) -> None:
        value = np.array([5.0, 1.0, 1.0])
        assert curves._limits([curves._Curve(True, value, value)]) == pytest.approx((0.76, 5.24))

    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_panels(self, tmp_path, count) -> None:
        records = [{"step": i, **{f"m{k}": i + k + 1.0 for k in range(count)}} for i in range(60)]
        picture = _pixels(viz.loss_curves(tmp_path / "x.png", records, log=True, title="a run"))
        one = _pixels(viz.loss_curves(tmp_path / "y.png", records, keys=["m0"]))
        assert (picture.shape != one.shape) == (count > 1)

    def test_values_below_zero_stay_linear(self, tmp_path) -> None:
        path = viz.loss_curves(tmp_path / "x.png", [{"step": i, "loss": i - 3.0} for i in range(9)], log=True)
        plain = viz.loss_curves(tmp_path / "y.png", [{"step": i, "loss": i - 3.0} for i in range(9)])
        assert path.read_bytes() == plain.read_bytes()

    def test_nothing_to_draw(self, tmp_path) -> None:
        with pytest.raises(ValueError, match="the 1 records hold no number for any metric"):
            viz.loss_curves(tmp_path / "x.png", [{"step": 1}])
        with pytest.raises(ValueError, match=r"hold no number for \['los'\]"):
            viz.loss_curves(tmp_path / "x.png", [{"step": 1, "loss": 2.0}], keys=["los"])


class TestLines:
    def test_a_logarithmic_axis_is_for_positive_values(self, tmp_path) -> None:
        def draw(values: list[float], log: bool) -> bytes:
            return viz.lines(tmp_path / "x.png", [0, 1, 2], {"p": {"a": values}}, label="x", log=log).read_bytes()

        assert draw([1.0, 10.0, 100.0], True) != draw([1.0, 10.0, 100.0], False)
        assert draw([0.0, 10.0, 100.0], True) == draw([0.0, 10.0, 100.0], False)

    def test_curves_have_a_value_for_each_x(self, tmp_path) -> None:
        with pytest.raises(ValueError, match=r"lines: 'a' has shape \(2,\), x has \(3,\)"):
            viz.lines(tmp_path / "x.png", [0, 1, 2], {"p": {"a": [1, 2]}}, label="x")

    def test_each_curve_of_a_trade_off_has_points_of_its_own(self, tmp_path) -> None:
        with pytest.raises(ValueError, match=r"trade_off: 'a' has x of shape \(2,\) and y of shape \(3,\)"):
            viz.trade_off(tmp_path / "x.png", {"a": ([0, 1], [0, 1, 2])}, x="cost", y="gain")


class TestPlots:
    def test_points_are_drawn_in_the_colours_of_their_classes(self, tmp_path) -> None:
        points = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
        picture = _pixels(viz.scatter(tmp_path / "x.png", points, [0, 1, 2], ["a", "b", "c"]))
        for colour in style.PALETTE[:3]:
            rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
            blended = 0.7 * rgb + 0.3 * 255
            assert (np.abs(picture - blended).max(axis=2) < 4).sum() > 20

    def test_many_classes_and_values_get_a_colour_bar(self, tmp_path) -> None:
        rng = np.random.default_rng(0)
        points = rng.standard_normal((40, 2))
        few = _pixels(viz.scatter(tmp_path / "a.png", points, np.arange(40) % 10))
        many = _pixels(viz.scatter(tmp_path / "b.png", points, np.arange(40) % 11))
        values = _pixels(viz.scatter(tmp_path / "c.png", points, rng.random(40)))
        brightest = 0.8 * np.array([253, 231, 36]) + 0.2 * 255  # of viridis, with the transparency of the points

        def has_bar(picture: np.ndarray) -> bool:
            return bool((np.abs(picture - brightest).max(axis=2) < 8).sum() > 50)

        assert [has_bar(picture) for picture in (few, many, values)] == [False, True, True]

    def test_density_is_upright(self, tmp_path) -> None:
        """Dark where the density is: in the upper right quarter."""
        picture = _pixels(viz.density_2d(tmp_path / "x.png", {"f": lambda p: (p > 0).all(1)}, (-1, 1, -1, 1)))
        dark = np.argwhere(picture.sum(2) < 200)
        middle = np.array(picture.shape[:2]) / 2
        assert dark[:, 0].mean() < middle[0]
        assert dark[:, 1].mean() > middle[1]

    def test_attention_rows_are_queries(self, tmp_path) -> None:
        weights = np.zeros((3, 5))
        weights[0, 4] = 1.0
        picture = _pixels(viz.attention_map(tmp_path / "x.png", weights, list("abc"), list("vwxyz")))
        inside = picture[:, : int(0.85 * picture.shape[1])]
        dark = np.argwhere(inside.sum(2) < 130)
        assert dark[:, 0].mean() < picture.shape[0] / 3
        assert dark[:, 1].mean() > picture.shape[1] / 2

    def test_heads_get_panels(self, tmp_path) -> None:
        tokens = [f"token {i}" for i in range(6)]
        one = _pixels(viz.attention_map(tmp_path / "a.png", np.eye(6), tokens, tokens))
        eight = _pixels(
            viz.attention_map(tmp_path / "b.png", np.tile(np.eye(6), (8, 1, 1)), tokens, tokens, title="layer")
        )
        assert eight.shape[1] > 2 * one.shape[1]

    def test_arguments_are_checked(self, tmp_path) -> None:
        path, points = tmp_path / "x.png", np.zeros((3, 2))
        with pytest.raises(ValueError, match=r"points: need finite points \(N, 2\), got shape \(3, 3\)"):
            viz.scatter(path, np.zeros((3, 3)))
        with pytest.raises(ValueError, match="3 points need 3 labels"):
            viz.scatter(path, points, [1, 2])
        with pytest.raises(ValueError, match="no samples given"):
            viz.samples_2d(path, {})
        with pytest.raises(ValueError, match=r"f gave shape \(\) for 16 points"):
            viz.density_2d(path, {"f": lambda p: 1.0}, (0, 1, 0, 1), resolution=4)
        with pytest.raises(ValueError, match="only finite ones"):
            viz.histogram(path, {"a": [np.inf]})
        with pytest.raises(ValueError, match="2 queries need 2 tokens, got 3"):
            viz.attention_map(path, np.zeros((2, 2)), list("abc"))
        with pytest.raises(ValueError, match=r"got shape \(2,\)"):
            viz.attention_map(path, np.zeros(2))
        assert not path.exists()
