"""Figures of whole brains: connectomes, series, functional connectivity, spectra, maps."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import LineCollection

import bayesdcm
from bayesdcm import plot


@pytest.fixture(scope="module")
def example():
    return bayesdcm.load_connectome("example")


@pytest.fixture(autouse=True)
def _nothing_is_shown(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *_, **__: pytest.fail("a plot was shown"))
    yield
    plt.close("all")


def panel(figure, title):
    (ax,) = [ax for ax in figure.axes if ax.get_title(loc="left") == title]
    return ax


def texts(figure):
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


def test_connectome_shows_targets_in_rows_and_regions_at_their_centres(example):
    weights = np.array(example.weights)
    weights[1, 0] = 5.0
    figure = plot.plot_connectome(example.replace(weights=weights))
    ax = panel(figure, "Weights")
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("target", "source")
    shown = ax.images[0].get_array()
    assert shown[1, 0] == 5.0 and shown.mask[0, 0]
    assert [label.get_text() for label in ax.get_yticklabels()] == list(example.region_names)
    lengths = panel(figure, "Lengths of tracts").images[0].get_array()
    assert lengths.max() == example.lengths.max()
    above = panel(figure, "Seen from above")
    dots = above.collections[-1].get_offsets()
    np.testing.assert_array_equal(dots, example.centres[:, :2])
    (lines,) = [item for item in above.collections if isinstance(item, LineCollection)]
    assert len(lines.get_segments()) == 26
    assert {"L frontal", "R occipital"} <= set(texts(figure))
    assert "8 regions, 52 connections (93 % of all)" in texts(figure)


def test_connectome_without_lengths_and_centres_is_one_matrix(example):
    figure = plot.plot_connectome(example.replace(lengths=None, centres=None))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["Weights", ""]
    with pytest.raises(TypeError, match="connectome must be a Connectome, got ndarray"):
        plot.plot_connectome(example.weights)


def test_functional_connectivity_beside_a_recording(example):
    simulated = bayesdcm.functional_connectivity(example.bold[0].signal[:80])
    figure = plot.plot_functional_connectivity(simulated, example)
    images = [panel(figure, title).images[0] for title in ("Simulated", "Recorded")]
    assert images[0].get_clim() == images[1].get_clim()
    assert images[0].get_clim()[0] == -images[0].get_clim()[1]
    assert images[1].get_array()[2, 1] == example.functional_connectivity[2, 1]
    points = panel(figure, "Pairs of regions").collections[0].get_offsets()
    expected = np.corrcoef(points.T)[0, 1]
    assert f"r = {expected:.2f}" in texts(figure)
    assert "L temporal" in texts(figure)
    alone = plot.plot_functional_connectivity(simulated)
    assert [ax.get_title(loc="left") for ax in alone.axes] == ["Functional connectivity", ""]
    with pytest.raises(ValueError, match="same regions in the same order; got 7 and 8 regions"):
        plot.plot_functional_connectivity(simulated[:7, :7], example)
    with pytest.raises(ValueError, match="with other names"):
        plot.plot_functional_connectivity(example.subset(example.region_names[::-1]), example)
    with pytest.raises(ValueError, match="simulated must be a square matrix, got shape"):
        plot.plot_functional_connectivity(example.bold[0].signal)


def test_dynamics_in_seconds_and_their_distributions(example):
    first = bayesdcm.functional_connectivity_dynamics(example.bold[0], 30, 10)
    second = bayesdcm.functional_connectivity_dynamics(example.bold[0].signal[:200], 30, 10)
    figure = plot.plot_functional_connectivity_dynamics(first, second)
    # Middles of windows of 60 s that start every 20 s.
    assert panel(figure, "Simulated").images[0].get_extent()[:2] == [19.0, 579.0]
    assert panel(figure, "Recorded").get_xlabel() == "other window"
    distance = bayesdcm.observe.functional_connectivity_dynamics_distance(first, second)
    assert f"KS distance = {float(distance):.2f}" in texts(figure)
    alone = plot.plot_functional_connectivity_dynamics(second)
    assert not any("KS" in text for text in texts(alone))


def test_spectra(example):
    spectrum = bayesdcm.power_spectrum(example.bold[0])
    ax = plot.plot_power_spectrum(spectrum, unit="%")
    assert len(ax.lines) == 9 and ax.get_ylabel() == "power spectral density (%²/Hz)"
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), np.median(spectrum[1:], axis=1))
    few = plot.plot_power_spectrum(spectrum[:, :2])
    assert [line.get_label() for line in few.lines] == ["L frontal", "L temporal"]
    arrays = bayesdcm.power_spectrum(example.bold[0].signal, 2.0)
    both = plot.plot_power_spectrum(spectrum, arrays)
    assert [line.get_label() for line in both.lines] == ["simulated", "recorded"]
    batch = bayesdcm.power_spectrum(np.stack([example.bold[0].signal] * 2), 2.0)
    with pytest.raises(ValueError, match=r"spectrum has the shape \(2, 34, 8\)"):
        plot.plot_power_spectrum(batch)


def series(values, step=0.1, name="E", unit="1", rows="region"):
    names = [f"r{i}" for i in range(values.shape[1])]
    coords = {"time": step * np.arange(1, len(values) + 1), rows: names}
    return xr.DataArray(values, coords, ("time", rows), name, {"units": unit})


def test_series_in_rows_of_one_scale():
    values = np.zeros((50, 3))
    values[10, 0], values[20, 1], values[:, 2] = 2.0, -1.0, 5.0
    ax = plot.plot_simulated_series(series(values, unit="mV"))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["r0", "r1", "r2"]
    lines = [line.get_ydata() for line in ax.lines[:3]]
    # Rows count downwards, curves upwards; a constant is a flat line in its row.
    assert (lines[0].argmin(), lines[1].argmax()) == (10, 20)
    assert np.ptp(lines[0]) == pytest.approx(0.9) and np.ptp(lines[1]) == pytest.approx(0.45)
    assert np.ptp(lines[2]) == 0 and lines[2][0] == 2
    assert "1 mV" in texts(ax.figure)
    # The bar is as high as it says: 1 of 2 mV, which are 0.9 rows.
    assert np.ptp(ax.lines[-1].get_ydata()) == pytest.approx(0.45)


def test_long_series_keep_their_peaks():
    values = np.zeros((50_001, 2))
    values[31_234, 1] = 3e-13
    ax = plot.plot_simulated_series(series(values, 1e-3, "meg", "T", rows="channel"))
    line = ax.lines[1]
    assert len(line.get_xdata()) < 5_000
    assert line.get_xdata()[line.get_ydata().argmin()] == pytest.approx(31.234, abs=0.03)
    assert "100 × 10⁻¹⁵ T" in texts(ax.figure)


def test_series_beside_a_recording_and_what_is_no_series(example):
    rng = np.random.default_rng(0)
    first, second = (series(rng.normal(size=(40, 2)) * size) for size in (1.0, 50.0))
    ax = plot.plot_simulated_series(first, second)
    assert {"simulated", "recorded"} <= set(texts(ax.figure))
    assert np.ptp(ax.lines[2].get_ydata()) < 2 * np.ptp(ax.lines[0].get_ydata())
    with pytest.raises(ValueError, match="recorded must have the rows of series"):
        plot.plot_simulated_series(first, series(np.ones((40, 3))))
    with pytest.raises(TypeError, match="series must be an xarray.DataArray"):
        plot.plot_simulated_series(example.bold[0].signal)
    batch = xr.concat([first, first], "simulation")
    with pytest.raises(ValueError, match=r"series has the axes simulation, time, region"):
        plot.plot_simulated_series(batch)


def test_values_of_regions_where_they_lie(example):
    values = np.linspace(-1, 2, 8)
    figure = plot.plot_regional_map(example, values, label="gain (1)")
    above = panel(figure, "Seen from above").collections[0]
    order = np.argsort(example.centres[:, 2])
    np.testing.assert_array_equal(above.get_offsets(), example.centres[order, :2])
    np.testing.assert_array_equal(above.get_array(), values[order])
    assert (above.norm.vmin, above.norm.vmax) == (-2, 2)
    rows = panel(figure, "By region")
    np.testing.assert_array_equal(rows.lines[-1].get_xdata(), values)
    assert "gain (1): -1 to 2" in texts(figure) and "R occipital" in texts(figure)
    alone = plot.plot_regional_map(example.replace(centres=None), np.ones(8))
    assert [ax.get_title(loc="left") for ax in alone.axes] == ["By region"]
    with pytest.raises(ValueError, match=r"one a region, shape \(8,\); got shape \(7,\)"):
        plot.plot_regional_map(example, values[:7])
    with pytest.raises(ValueError, match="not finite"):
        plot.plot_regional_map(example, np.full(8, np.nan))
    with pytest.raises(TypeError, match="connectome must be a Connectome, got ndarray"):
        plot.plot_regional_map(example.weights, values)
