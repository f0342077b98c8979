"""Figures and report of a fit of a column with a proximal and a distal drive."""

from types import SimpleNamespace

import numpy as np
import pytest

import bayesdcm
from bayesdcm import DipoleData, Drive, LaminarDCM, plot
from bayesdcm.models.hnn_simulator import HnnResponse
from bayesdcm.report import write_report
from bayesdcm.report.words import findings, what_was_fitted

CELLS = ("L2_basket", "L2_pyramidal", "L5_basket", "L5_pyramidal")
PROXIMAL = [(0.0036, 0.0039, 0.0019, 0.002), (0.0029, 0.0005, 0.003, 0.0019)]
DISTAL = [(0.0043, 0.0032, 0.0009), (0.0029, 0.0051, 0.001)]


def weights(cells, numbers):
    return [dict(zip(cells, each, strict=True)) for each in numbers]


def texts(figure):
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@pytest.fixture(scope="module")
def column():
    """The fit, its model and data, and a response of a network."""
    first = Drive("first", "proximal", 25.0, 2.0, *weights(CELLS, PROXIMAL))
    second = Drive("second", "distal", 60.0, 3.0, *weights((*CELLS[:2], CELLS[3]), DISTAL))
    drives = [first.free(time=4.0), second]
    model, times = LaminarDCM(drives, model_error=0.0, trials=2), 0.002 * np.arange(-10, 60)
    design = DipoleData(1e-12 * np.sin(40 * times), times, noise_sd=1e-13)
    true = {"time": np.array([27.0, 60.0]), "scale": 0.0}
    data = model.simulate(true, design, seed=1, snr=5.0)
    layers = {"L2": 1e-12 * np.ones(120), "L5": 1e-12 * np.arange(120)}
    trial = DipoleData(layers["L2"] + layers["L5"], 1e-3 * np.arange(120), layers=layers)
    counts = {cell: np.tile([[2], [4]], (1, 120)) for cell in CELLS}
    events = {"first": np.array([[26.0], [28.0]]), "second": np.array([[59.0], [61.0]])}
    response = HnnResponse((first, second), (trial, trial), counts, events)
    fit = bayesdcm.fit(model, data, draws=60, progress=False)
    return SimpleNamespace(fit=fit, model=model, data=data, response=response)


def test_drives_show_times_dipole_and_spikes(column):
    figure = plot.plot_drives(column.fit, column.response)
    above, middle, below = figure.axes
    draws = column.fit.idata.posterior["time"].to_numpy()[0, :, 0]
    low, high = np.quantile(draws, [0.05, 0.95])
    written = texts(figure)
    assert f"first\n{draws.mean():.1f} [{low:.1f}, {high:.1f}] ms" in written
    assert "second\n60 ms (fixed)" in written
    assert above.get_ylim()[0] < -1 and above.get_ylim()[1] > 1
    lines = {line.get_label(): line for line in middle.lines}
    np.testing.assert_allclose(lines["data"].get_ydata(), 1e12 * column.data.dipole)
    assert middle.get_ylabel().replace("\xa0", " ") == "dipole (10⁻³ × nAm)"
    assert below.get_xlabel() == "time after the stimulus (ms)"
    assert "360 spikes a trial,\npeak 3 a ms" in written


def test_firing_of_the_column_is_drawn_without_a_response(column):
    figure = plot.plot_drives(column.fit, n_draws=2)
    assert figure.axes[2].get_title(loc="left") == "firing of the column"
    rates = np.asarray(column.model.firing(column.fit.mean, column.data))
    assert rates.shape == (70, 4)
    np.testing.assert_allclose(rates[:11], 0, atol=1e-6)
    assert rates.max() > 1


def test_firing_is_that_of_the_voltages_without_jitter(column):
    from bayesdcm.integrate.exponential_euler import step_ends
    from bayesdcm.neural.laminar_equations import calibration, constants_of, firing

    drives = [drive.replace(spread=0.0) for drive in column.model.drives]
    model = LaminarDCM(drives, model_error=0.0)
    found = np.asarray(model.firing(column.fit.mean, column.data))
    solution = model._solution(
        {prior.name: prior.mean for prior in model.priors} | dict(column.fit.mean),
        model._steps(column.data),
        False,
    )
    rates = 1e3 * firing(solution[:, 0, :6], constants_of(calibration().values))
    # Events of a step are those of the voltages at its start.
    rates = np.concatenate([np.zeros((1, 4)), rates[:-1]])
    at = [np.interp(column.data.times, step_ends(column.data.times), rate) for rate in rates.T]
    largest = np.max(at, axis=1)
    assert (np.abs(found - np.transpose(at)).max(0) < 1e-6 * largest).all()


def test_layers_add_up_to_the_dipole(column):
    figure = plot.plot_layers(column.fit, column.response)
    curves = [ax.lines[-2].get_ydata() for ax in figure.axes]
    mean = 1e12 * np.asarray(column.fit.predict())
    np.testing.assert_allclose(sum(curves), mean, atol=1e-9 + 1e-6 * np.abs(mean).max())
    cells = float(column.fit.idata.posterior["pyramidal_cells"].mean())
    np.testing.assert_allclose(figure.axes[0].lines[-1].get_ydata(), 1.0 * cells / 200)


def test_parameters_are_in_physical_units(column):
    figure = plot.plot_drive_parameters(column.fit)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["time"]
    assert figure.axes[0].get_xlabel() == "later than the prior mean (ms)"
    assert "60.0 (fixed)" in texts(figure)


def test_sensitivity_is_that_of_the_prediction(column):
    figure = plot.plot_drive_sensitivity(column.fit)
    mean = {p.name: column.fit.idata.posterior[p.name].mean(("chain", "draw")).to_numpy()
            for p in column.model.priors}  # fmt: skip
    curve = figure.axes[1].lines[0].get_ydata()
    moved = [column.model.predict(mean | {"time": mean["time"] + [h, 0.0]}, column.data)
             for h in (-0.01, 0.01)]  # fmt: skip
    expected = 1e12 * np.asarray(moved[1] - moved[0]) / 0.02
    np.testing.assert_allclose(curve, expected, atol=2e-3 * np.abs(expected).max())


def test_report_says_what_drives_do(column, tmp_path):
    said = findings(column.fit, None)
    assert len(said) == 2 and said[0].startswith("Drive first comes 2")
    what = what_was_fitted({"laplace": column.fit})
    assert "fitted to the evoked dipole, 70 samples from -20 to 118 ms after the stimulus" in what
    page = write_report(column.fit, tmp_path / "report.html").read_text()
    for heading in ("Drives, dipole and firing", "Numbers of the drives", "Layers", "Sensitivity"):
        assert heading in page
    assert "units of the data" not in page


def test_other_models_and_responses_are_refused(column, program_fit):
    with pytest.raises(TypeError, match="fit must be one of a driven column"):
        plot.plot_layers(program_fit)
    with pytest.raises(TypeError, match="response must be what HnnSimulator.run returns"):
        plot.plot_drives(column.fit, column.data)
    with pytest.raises(ValueError, match="n_draws must be at least 2, got 1"):
        plot.plot_layers(column.fit, n_draws=1)
