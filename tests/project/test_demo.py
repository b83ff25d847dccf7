"""The demo: its interpolation and gradients alone, and the whole of it on a crop of the image."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

for _package in ("scipy", "skimage", "matplotlib", "rich"):
    pytest.importorskip(_package)

from arrayops._demo import command, data, evaluation, extras, fit, interpolation, model  # noqa: E402


def floats(values: Any) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def random_map(height: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(5, 50, (height, width)).astype(np.float32)


def all_measured(disparity: data.Floats) -> data.Samples:
    return data.Samples(disparity, np.ones(disparity.shape, np.bool_))


@pytest.fixture(scope="module")
def scene() -> data.Scene:
    return data.load_scene(16, quick=True)


# Picture and samples


def test_scene_masks_what_was_not_measured(scene: data.Scene) -> None:
    assert scene.photo.dtype == scene.disparity.dtype == np.float32
    assert scene.photo.shape[1:] == scene.disparity.shape == scene.measured.shape
    assert 0 <= scene.photo.min() < scene.photo.max() <= 1
    assert np.isfinite(scene.disparity).all()
    assert 0.5 < scene.measured.mean() < 1
    assert (scene.disparity[scene.measured] > 0).all()
    assert (scene.disparity[~scene.measured] == 0).all()


@pytest.mark.parametrize(("length", "offset", "expected"), [(500, 0, 497), (500, 3, 497), (500, 4, 481), (17, 0, 17)])
def test_lattice_extent_ends_on_a_sample(length: int, offset: int, expected: int) -> None:
    extent = data.lattice_extent(length, 16, offset)
    assert extent == expected
    assert offset + extent <= length


def test_sample_takes_points() -> None:
    disparity = random_map(9, 13)
    measured = disparity > 20
    low = data.sample(disparity, measured, 4)
    assert low.disparity.shape == low.measured.shape == (3, 4)
    assert low.disparity[2, 1] == disparity[8, 4]
    np.testing.assert_array_equal(low.measured, measured[::4, ::4])


# Interpolation


@pytest.mark.parametrize("factor", [2, 4, 5])
def test_bilinear_filter_equals_torch_interpolate(factor: int) -> None:
    torch = pytest.importorskip("torch")
    low = torch.from_numpy(random_map(5, 6))[None, None]
    expected = torch.nn.functional.interpolate(
        low, size=(4 * factor + 1, 5 * factor + 1), mode="bilinear", align_corners=True
    )
    for reach in (1, 2):
        weight = torch.from_numpy(interpolation.bilinear_filter(factor, reach))[None, None]
        actual = torch.nn.functional.conv_transpose2d(low, weight, stride=factor, padding=reach * factor - 1)
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_bilinear_equals_scipy_where_all_is_measured() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    low = random_map(5, 6)
    y, x = np.indices((17, 21)) / 4
    expected = ndimage.map_coordinates(low.astype(np.float64), (y, x), order=1)
    np.testing.assert_allclose(interpolation.bilinear(all_measured(low), 4), expected, rtol=1e-6)


def test_bilinear_leaves_missing_samples_out() -> None:
    low = data.Samples(floats([[1, 99], [3, 5]]), np.array([[True, False], [True, True]]))
    up = interpolation.bilinear(low, 2)
    expected = [[1, 1, 3], [2, 3, 5], [3, 4, 5]]  # top right: nothing but the missing sample counts, so the nearest
    np.testing.assert_allclose(up[:, :2], floats(expected)[:, :2])
    np.testing.assert_allclose(up[1:, 2], [5, 5])
    assert up[0, 2] in (1, 5)


def test_nearest_is_the_nearest_measured_sample() -> None:
    low = data.Samples(floats([[1, 0, 7]]), np.array([[True, False, True]]))
    up = interpolation.nearest(low, 3)
    np.testing.assert_array_equal(up[0, :3], 1)
    assert up[0, 3] in (1, 7)  # midway
    np.testing.assert_array_equal(up[0, 4:], 7)


def test_without_any_measurement_the_result_is_zero() -> None:
    low = data.Samples(random_map(3, 3) * 0, np.zeros((3, 3), np.bool_))
    assert (interpolation.nearest(low, 2) == 0).all()
    assert (interpolation.bilinear(low, 2) == 0).all()


# Model


def problem(dtype: type[np.floating[Any]] = np.float32) -> dict[str, Any]:
    """Make the arguments of `model.gradients`: a small problem with missing samples and pixels."""
    rng = np.random.default_rng(1)
    factor = 2
    target = rng.uniform(0, 10, (13, 15)).astype(dtype)
    measured = np.asarray(rng.random(target.shape) < 0.8)
    samples = data.sample(target, measured, factor)
    upsampler = model.Upsampler(rng.uniform(-1, 0.5, 5).astype(dtype), rng.uniform(0.1, 1, (1, 1, 7, 7)).astype(dtype))
    return {
        "upsampler": upsampler,
        "samples": samples,
        "features": rng.uniform(0, 2, (5, *target.shape)).astype(dtype),
        "prior": interpolation.bilinear(samples, factor).astype(dtype),
        "factor": factor,
        "target": target,
        "measured": measured,
    }


@pytest.mark.parametrize("field", ["log_scales", "weight"])
def test_gradients_agree_with_finite_differences(field: str) -> None:
    arguments = problem(np.float64)
    gradient = getattr(model.gradients(**arguments), field)
    values = getattr(arguments["upsampler"], field)
    assert gradient.shape == values.shape
    step = 1e-5
    numeric = np.empty_like(values)
    for index in np.ndindex(values.shape):
        value = values[index]
        losses = []
        for shifted in (value + step, value - step):
            values[index] = shifted
            losses.append(model.gradients(**arguments).loss)
        values[index] = value
        numeric[index] = (losses[0] - losses[1]) / (2 * step)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-6 * np.abs(numeric).max())


def test_an_even_guide_gives_bilinear() -> None:
    arguments = problem()
    upsampler = model.initial_upsampler(2)
    upsampler.log_scales[:] = -30
    arguments = {name: arguments[name] for name in ("samples", "features", "prior", "factor")}
    up = model.upsample(upsampler, **arguments)
    np.testing.assert_allclose(up, arguments["prior"], rtol=1e-5)


def test_a_constant_map_stays_constant_under_any_guide() -> None:
    arguments = problem()
    samples = data.Samples(np.full_like(arguments["samples"].disparity, 7), arguments["samples"].measured)
    prior = np.full_like(arguments["prior"], 7)
    up = model.upsample(arguments["upsampler"], samples, arguments["features"], prior, 2)
    np.testing.assert_allclose(up, 7, rtol=1e-5)


# Fit


def test_adam_finds_the_minimum_of_a_parabola() -> None:
    target = floats([3, -1])
    value = np.zeros(2, np.float32)
    adam = fit.Adam(0.1)
    for _ in range(2000):
        value += adam.step(2 * (value - target))
    np.testing.assert_allclose(value, target, rtol=1e-4)


def test_symmetrized_is_a_projection() -> None:
    weight = np.random.default_rng(0).normal(size=(1, 1, 5, 5)).astype(np.float32)
    once = fit.symmetrized(weight)
    for other in (once.swapaxes(-1, -2), once[..., ::-1], once[..., ::-1, :]):
        np.testing.assert_allclose(other, once, rtol=1e-6)
    np.testing.assert_allclose(fit.symmetrized(once), once, rtol=1e-6)
    np.testing.assert_allclose(once.sum(), weight.sum(), rtol=1e-5)


def test_fit_reads_nothing_right_of_the_fitted_columns(scene: data.Scene) -> None:
    spoilt = {name: getattr(scene, name).copy() for name in ("photo", "disparity", "measured")}
    for array in spoilt.values():
        array[..., scene.fit_stop :] = 1
    other = data.Scene(**spoilt, fit_stop=scene.fit_stop, evaluation_start=scene.evaluation_start)
    fitted, again = (fit.fit(picture, 4, iterations=2, seed=3) for picture in (scene, other))
    # Equal bits: this also says that the same seed gives the same fit.
    np.testing.assert_array_equal(fitted.weight, again.weight)
    np.testing.assert_array_equal(fitted.log_scales, again.log_scales)


# Evaluation and command


def test_evaluated_windows_share_no_sample_with_fitted_ones() -> None:
    reach = model.initial_upsampler(4).weight.shape[-1] // 2
    scene = data.load_scene(2 * model.REACH * 4, quick=True)
    assert scene.fit_stop - 1 + reach < scene.evaluation_start - reach


def test_rmse() -> None:
    assert evaluation.rmse(floats([1, 2]), floats([1, 4])) == pytest.approx(2**0.5)


@pytest.mark.slow
def test_quick_demo_beats_bilinear(tmp_path: Path) -> None:
    from rich.console import Console

    text = io.StringIO()
    output = tmp_path / "figure.png"
    (result,) = command.run(
        (4,), output, iterations=10, seed=0, quick=True, console=Console(file=text, width=120, color_system=None)
    )
    assert output.read_bytes().startswith(b"\x89PNG")
    assert set(result.rmse) == set(result.maps) == {"nearest", "bilinear", "PAC"}
    assert np.isfinite(list(result.rmse.values())).all()
    assert result.rmse["PAC"] < 0.95 * result.rmse["bilinear"]
    assert result.rmse["bilinear"] < result.rmse["nearest"]
    assert result.pixels > 10_000
    row = next(line for line in text.getvalue().splitlines() if line.startswith("│"))
    for value in result.rmse.values():
        assert f"{value:.3f}" in row
    assert f"figure: {output}" in text.getvalue()


@pytest.mark.slow
def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "figure.svg"
    assert command.main(["--quick", "--factors", "2", "3", "--iterations", "1", "--output", str(output)]) == 0
    assert "RMSE in pixels of disparity" in capsys.readouterr().out
    assert "<svg" in output.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--factors", "1"], "got '1', expected an integer of at least 2"),
        (["--iterations", "none"], "got 'none', expected an integer of at least 1"),
        (["--seed", "-1"], "got '-1', expected an integer of at least 0"),
    ],
)
def test_bad_numbers_are_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        command.main(arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "figure.txt"], "--output is figure.txt, expected one of the extensions "),
        (
            ["--output", "nowhere/figure.png"],
            "--output is nowhere/figure.png, but the directory nowhere does not exist",
        ),
        (["--output", "folder.png"], "--output is folder.png, which is a directory"),
        (["--factors", "64"], "factor 64 is too large for an image of 201 x 321 pixels"),
    ],
)
def test_what_cannot_work_is_said_at_once(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    assert command.main(["--quick", *arguments]) == 1
    assert capsys.readouterr().err.startswith(f"arrayops demo: {message}")


@pytest.mark.parametrize("package", ["rich", "skimage", "matplotlib", "scipy"])
def test_a_missing_package_is_named(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real_import = importlib.import_module

    def import_module(name: str, *rest: Any) -> ModuleType:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real_import(name, *rest)

    monkeypatch.setattr(importlib, "import_module", import_module)
    assert command.main(["--quick", "--iterations", "1", "--output", str(tmp_path / "figure.png")]) == 1
    assert f'the demo requires {package}: pip install "arrayops-nn[examples]"' in capsys.readouterr().err


def test_a_failure_inside_a_package_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(name: str) -> ModuleType:
        raise ModuleNotFoundError("No module named 'other'", name="other")

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(ModuleNotFoundError, match="other"):
        extras.load("rich.console")
