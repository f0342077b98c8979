"""Figures of fits of evoked responses, made from what a file holds."""

import dataclasses

import matplotlib as mpl
import matplotlib.pyplot as plt
import mne
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import bayesdcm
from bayesdcm import plot
from bayesdcm.infer import arviz_adapter
from bayesdcm.infer.evoked_fit_quality import autocorrelations
from bayesdcm.plot.connections import read_connections
from bayesdcm.plot.quantities import entries, finite
from bayesdcm.plot.series import power_of_thousand, power_text
from bayesdcm.report import write_report

# For the fits that are drawn.
pytestmark = pytest.mark.slow

DRAWN = [
    plot.plot_fit,
    plot.plot_residuals,
    plot.plot_posterior,
    plot.plot_free_energy,
    plot.plot_network,
    plot.plot_connection_strengths,
]


def texts(drawn):
    """Everything written in a figure, no-break spaces as spaces."""
    figure = drawn if isinstance(drawn, Figure) else drawn.figure
    found = [item.get_text().replace("\xa0", " ") for item in figure.findobj(mpl.text.Text)]
    return [text for text in found if text]


def changed(fit, **groups):
    """The fit with data sets of its ArviZ object replaced."""
    found = arviz_adapter.groups_of(fit.idata)
    fit.idata = arviz_adapter.assemble(found | groups)
    return fit


def constants(fit, channels, back, names):
    """Other channels for the same modes."""
    dims = {"channels": ("condition", "time", "channel"), "modes_to_channels": ("mode", "channel")}
    old = arviz_adapter.groups_of(fit.idata)["constant_data"]
    coords = {axis: old[axis].values for axis in ("condition", "time", "mode")}
    values = {"channels": channels, "modes_to_channels": back}
    new = arviz_adapter.dataset(values, dims, coords | {"channel": np.array(names)}, ())
    kept = old.drop_dims("channel")
    return changed(fit, constant_data=kept.merge(new))


def montage_info(names, kind="eeg"):
    info = mne.create_info(names, 250.0, kind)
    positions = mne.channels.make_standard_montage("biosemi32").get_positions()["ch_pos"]
    if kind == "eeg":
        return info.set_montage("biosemi32")
    with info._unlock():
        for channel in info["chs"]:
            outward = positions[channel["ch_name"]]
            channel["loc"][:3] = 1.2 * outward
            channel["loc"][3:12] = np.eye(3).ravel()
            channel["coil_type"] = mne.io.constants.FIFF.FIFFV_COIL_VV_MAG_T3
    return info


NAMES = ["Fp1", "Fp2", "F3", "Fz", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4", "O1", "O2"]


@pytest.fixture
def sensors(evoked_fit):
    """The fit as if it had been one to electrodes, and the map of each mode."""
    back = np.random.default_rng(0).normal(size=(2, len(NAMES)))
    signal = evoked_fit.idata.observed_data["signal"].to_numpy()
    return constants(evoked_fit, 1e-6 * signal @ back, 1e-6 * back, NAMES), back


@pytest.fixture(autouse=True)
def _nothing_is_shown(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *_, **__: pytest.fail("a plot was shown"))


@pytest.mark.parametrize("draw", DRAWN)
def test_figures_of_a_loaded_fit(evoked_fit, draw):
    assert isinstance(draw(evoked_fit), Figure | Axes)


def test_fit_has_a_panel_for_each_mode_and_condition(evoked, evoked_fit):
    figure = plot.plot_fit(evoked_fit)
    assert len(figure.axes) == 4
    observed = evoked_fit.idata.observed_data["signal"].to_numpy()
    lines = [ax.lines[-2:] for ax in figure.axes]
    for (data, mean), (mode, condition) in zip(lines, np.ndindex(2, 2), strict=True):
        np.testing.assert_allclose(data.get_ydata(), observed[condition, :, mode])
        np.testing.assert_allclose(data.get_xdata(), 1e3 * evoked.data.times)
        expected = evoked_fit.predict().to_numpy()[condition, :, mode]
        np.testing.assert_allclose(mean.get_ydata(), expected)
    found = texts(figure)
    assert {"standard", "deviant", "left", "right", "fit, 90 % credible band"} <= set(found)
    assert "time after the stimulus (ms)" in found and "signal (units of the data)" in found
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_fit_writes_the_power_of_ten_of_small_signals(evoked_fit):
    groups = arviz_adapter.groups_of(evoked_fit.idata)
    small = {name: groups[name] * 1e-6 for name in ("observed_data", "posterior_predictive")}
    figure = plot.plot_fit(changed(evoked_fit, **small))
    assert "signal (10⁻⁶ × units of the data)" in texts(figure)
    assert np.abs(figure.axes[0].lines[1].get_ydata()).max() > 0.1


def test_residuals_are_compared_with_the_noise_that_the_model_assumes(evoked_fit):
    figure = plot.plot_residuals(evoked_fit, n_lags=8)
    left, right = figure.axes[:2]
    predicted = evoked_fit.predict().to_numpy()
    residuals = evoked_fit.idata.observed_data["signal"].to_numpy() - predicted
    np.testing.assert_allclose(left.lines[-1].get_ydata(), residuals[1, :, 0], atol=1e-9)
    points = right.collections[-1].get_offsets()
    np.testing.assert_allclose(points[:, 1], autocorrelations(residuals, 8)[:, 0])
    np.testing.assert_allclose(points[:, 0], 6.0 * np.arange(1, 9))
    # Noise is positively correlated from sample to sample: so is the band.
    band = right.collections[0].get_paths()[0].get_extents()
    assert band.ymax > 0.5 and "95 % of the model's noise" in texts(figure)
    with pytest.raises(ValueError, match="n_lags must be from 1 to 20"):
        plot.plot_residuals(evoked_fit, n_lags=21)


def test_strengths_are_those_of_the_posterior(evoked_fit):
    found = read_connections(evoked_fit)
    assert found.relative and found.unit == "log scaling"
    names = [(entry.kind, found.name(entry)) for entry in found.entries]
    assert names == [
        ("forward", "A1 → STG"), ("backward", "STG → A1"), ("excitatory synaptic gain", "A1"),
    ]  # fmt: skip
    changes = [[change.name for change in entry.changes] for entry in found.entries]
    assert changes == [["deviant"], [], ["deviant"]]
    assert found.baseline == "standard"
    strength = np.asarray(evoked_fit.idata.posterior["connection_strength"])[0]
    forward, backward, _ = found.entries
    np.testing.assert_allclose(
        forward.draws[:, None] * forward.by_condition, strength[:, :, 0, 1, 0]
    )
    np.testing.assert_allclose(backward.draws, strength[:, 0, 1, 0, 1])


def test_strengths_are_drawn_in_percent_with_their_intervals(evoked_fit):
    figure = plot.plot_connection_strengths(evoked_fit)
    left, right = figure.axes
    B = np.asarray(evoked_fit.idata.posterior["B"])[0, :, 0, 1, 0]
    middle, low, high = 100 * np.quantile(np.exp(B), [0.5, 0.05, 0.95])
    bar, point = right.lines[-4:-2]
    np.testing.assert_allclose(bar.get_xdata(), [low, high])
    np.testing.assert_allclose(point.get_xdata(), [middle])
    found = texts(figure)
    assert any(text.startswith(f"{middle:.0f} % [{low:.0f}, {high:.0f}]  P ") for text in found)
    assert {"forward", "excitatory synaptic gain in", "the same in all conditions"} <= set(found)
    assert right.get_xlabel() == "strength (% of that in standard)"
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert labels == ["A1 → STG", "STG → A1", "A1"]


def test_strengths_without_a_baseline_condition_or_without_effects(evoked_fit):
    groups = arviz_adapter.groups_of(evoked_fit.idata)
    centred = groups["constant_data"].copy(deep=True)
    centred["design"] -= 0.5
    figure = plot.plot_connection_strengths(changed(evoked_fit, constant_data=centred))
    assert figure.axes[1].get_xlabel() == "strength (% of that without effects)"
    posterior, prior = groups["posterior"], groups["prior"]
    none = {"posterior": posterior.isel(effect=slice(0)), "prior": prior.isel(effect=slice(0))}
    bare = changed(evoked_fit, constant_data=centred.isel(effect=slice(0)), **none)
    assert len(plot.plot_connection_strengths(bare).axes) == 1
    assert isinstance(plot.plot_network(bare), Axes)


def test_network_tells_kinds_apart_and_says_what_changes(evoked_fit):
    ax = plot.plot_network(evoked_fit)
    found = texts(ax)
    median = np.median(np.exp(np.asarray(evoked_fit.idata.posterior["B"])[0, :, 0, 0, 0]))
    assert {"A1", "STG", "stimulus", "forward", "backward"} <= set(found)
    assert any(text.startswith(f"gain: deviant × {median:.2f}") for text in found)
    arrows = [p for p in ax.patches if isinstance(p, mpl.patches.FancyArrowPatch)]
    assert len({arrow.get_edgecolor() for arrow in arrows}) == 3
    dashed = [p for p in ax.patches if type(p) is mpl.patches.PathPatch]
    assert len(dashed) == 1 and dashed[0].get_linestyle() != "-"


def test_connectivity_has_a_panel_for_each_kind_and_effect(evoked_fit):
    figure = plot.plot_connectivity(evoked_fit, "A")
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert [title for title in titles if title] == ["forward", "backward"]
    hatched = [patch for patch in figure.axes[0].patches if patch.get_hatch()]
    assert len(hatched) == 3 and figure.axes[0].get_xlabel() == "from source"
    assert "posterior mean (log scaling)" in texts(figure)
    figure = plot.plot_connectivity(evoked_fit, "B")
    assert "by deviant" in texts(figure) and "Condition effects B (laplace)" in texts(figure)
    assert isinstance(plot.plot_connectivity(evoked_fit, "C"), Axes)
    with pytest.raises(ValueError, match="plot_connection_strengths shows it"):
        plot.plot_connectivity(evoked_fit, "connection_strength")
    with pytest.raises(ValueError, match="such as 'A', 'B', 'C' and 'delay'; got 'time_con"):
        plot.plot_connectivity(evoked_fit, "time_constant")


def test_posteriors_begin_with_effects_and_connections(evoked_fit):
    titles = [ax.get_title(loc="left") for ax in plot.plot_posterior(evoked_fit).axes]
    assert titles[:4] == [
        "B[deviant, A1, A1]", "B[deviant, STG, A1]", "A[forward, STG, A1]", "A[backward, A1, STG]",
    ]  # fmt: skip


def test_source_activity_of_a_loaded_fit(evoked, evoked_fit):
    figure = plot.plot_source_activity(evoked_fit, evoked.model, evoked.data, n_draws=50)
    assert len(figure.axes) == 6
    assert {"stellate", "pyramidal", "A1", "STG", "standard", "deviant"} <= set(texts(figure))
    posterior = evoked_fit.idata.posterior
    names = [prior.name for prior in evoked.model.source_model.priors()]
    draws = [{name: np.asarray(posterior[name])[0, i] for name in names} for i in range(50)]
    states = [np.asarray(evoked.model.source_activity(draw, evoked.data)) for draw in draws]
    pyramidal = np.mean(states, axis=0)[1, :, 0, 8]
    np.testing.assert_allclose(figure.axes[2].lines[-1].get_ydata(), pyramidal, atol=1e-9)
    chosen = plot.plot_source_activity(
        evoked_fit, evoked.model, evoked.data, ["pyramidal"], n_draws=50
    )
    assert len(chosen.axes) == 2
    chosen.canvas.draw()
    title = chosen._suptitle.get_window_extent()
    assert not title.overlaps(chosen.legends[0].get_window_extent())


def test_source_activity_needs_the_model_and_data_of_the_fit(evoked, evoked_fit):
    def draw(model=evoked.model, data=evoked.data, **options):
        return plot.plot_source_activity(evoked_fit, model, data, **options)

    with pytest.raises(TypeError, match="model must be the one that was fitted, of sources"):
        draw(model=1)
    with pytest.raises(ValueError, match=r"differ, in A\[backward, A1, STG\]"):
        draw(model=evoked.model.restrict(backward=0))
    with pytest.raises(ValueError, match="of which other arguments, solver or priors differ"):
        other = dataclasses.replace(evoked.model, priors={"log_precision": (2, 16)})
        plot.plot_source_activity(evoked.fit, other, evoked.data)
    with pytest.raises(ValueError, match="data must be those that were fitted"):
        draw(data=evoked.data.crop(0.0, 0.1))
    with pytest.raises(ValueError, match="populations must be one of .stellate"):
        draw(populations=["granular"])
    with pytest.raises(ValueError, match="n_draws must be at least 2"):
        draw(n_draws=1)


@pytest.mark.parametrize(("kind", "unit"), [("eeg", "µV"), ("mag", "fT")])
def test_topographies_of_electrodes_and_magnetometers(sensors, kind, unit):
    fit, _ = sensors
    figure = plot.plot_topographies(fit, montage_info(NAMES, kind), [0.06, 0.12])
    maps = [ax for ax in figure.axes if ax.images]
    assert len(maps) == 8
    found = texts(figure)
    assert {"60 ms", "120 ms", f"signal ({unit})", "deviant\nobserved"} <= set(found)
    # One colour scale for all.
    assert len({image.get_clim() for ax in maps for image in ax.images}) == 1


def test_topographies_show_data_and_fit_at_the_sensors(sensors, monkeypatch):
    fit, back = sensors
    shown = []
    monkeypatch.setattr(mne.viz, "plot_topomap", lambda values, *_, **__: shown.append(values))
    plot.plot_topographies(fit, montage_info(NAMES[::-1] + ["T7"]), 0.06)
    observed = fit.idata.observed_data["signal"].to_numpy()[:, 10] @ back
    predicted = fit.predict().to_numpy()[:, 10] @ back
    expected = [observed[0], predicted[0], observed[1], predicted[1]]
    np.testing.assert_allclose(shown, expected, atol=1e-9)
    shown.clear()
    plot.plot_topographies(fit, montage_info(NAMES))
    assert 4 <= len(shown) <= 16


def test_topographies_say_what_is_missing(sensors, evoked_fit):
    fit, _ = sensors
    info = montage_info(NAMES)
    with pytest.raises(TypeError, match="info must be an mne.Info"):
        plot.plot_topographies(fit, None)
    with pytest.raises(ValueError, match="info lacks 1 of the 13 channels of the fit"):
        plot.plot_topographies(fit, montage_info(NAMES[1:]))
    with pytest.raises(ValueError, match="times must be seconds from 0 to"):
        plot.plot_topographies(fit, info, [0.9])
    with pytest.raises(ValueError, match="channel_type must be one of 'eeg'"):
        plot.plot_topographies(fit, info, channel_type="mag")
    with pytest.raises(ValueError, match="without a position"):
        plot.plot_topographies(fit, mne.create_info(NAMES, 250.0, "eeg"))
    with pytest.raises(ValueError, match="channels of type misc; maps need"):
        plot.plot_topographies(fit, mne.create_info(NAMES, 250.0, "misc"))


@pytest.fixture(scope="module")
def nmda(tmp_path_factory):
    """Conductance-based sources, whose parameter ``delay`` has an axis of its own name."""
    model = bayesdcm.EvokedDCM(
        [[0, 0], [1, 0]], modulation=[[0, 0], [1, 0]], neural="nmda", observation="lfp"
    )
    rng = np.random.default_rng(0)
    data = bayesdcm.EvokedData(rng.normal(size=(2, 24, 2)), 0.008 * np.arange(24))
    true = {prior.name: np.array(prior.mean) for prior in model.priors}
    data = model.simulate(true, data, seed=1, snr=5.0)
    fit = bayesdcm.fit(model, data, progress=False, draws=20, max_iterations=3)
    path = fit.save(tmp_path_factory.mktemp("nmda") / "nmda.nc")
    return model, data, fit, bayesdcm.load_fit(path)


def test_parameters_named_like_their_axis(nmda, tmp_path):
    model, data, fit, loaded = nmda
    labels = ["delay[intrinsic]", "delay[extrinsic]"]
    for each in (fit, loaded):
        posterior = each.idata.posterior["delay"]
        assert posterior.dims == ("chain", "draw", "delay_dim")
        assert posterior["delay_dim"].values.tolist() == ["intrinsic", "extrinsic"]
        assert each.idata.prior["delay"].shape == (1, 500, 2)
        assert [name for name in each.summary().index if name.startswith("delay[")] == labels
        assert set(labels) <= set(entries(each))
        np.testing.assert_allclose(
            posterior.mean(("chain", "draw")), each.mean["delay"], atol=4 * each.sd["delay"].max()
        )
        assert each.diagnose().facts["explained_by_condition"].shape == (2, 2)
    assert str(fit.diagnose()) == str(loaded.diagnose())
    # The report draws the others.
    for draw in (
        plot.plot_free_energy,
        lambda fit: plot.plot_source_activity(fit, model, data, n_draws=5),
    ):
        assert isinstance(draw(loaded), Figure | Axes)
    text = write_report(loaded, tmp_path / "nmda.html").read_text(encoding="utf-8")
    assert "delay[intrinsic]" in text


def test_other_fits_are_refused(program_fit, evoked):
    for draw, message in (
        (plot.plot_connection_strengths, "none of its arrays has the axes 'to' and 'from'"),
        (lambda fit: plot.plot_topographies(fit, None), "lack channels and modes_to_channels"),
        (
            lambda fit: plot.plot_source_activity(fit, evoked.model, evoked.data),
            "model must be the one that was fitted",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            draw(program_fit)
        with pytest.raises(TypeError, match="fit must be a fit"):
            draw(1)


def test_a_fit_of_the_model_that_made_the_data_is_not_called_poor(evoked_fit):
    found = evoked_fit.diagnose()
    assert np.abs(found.facts["residual_correlation"]).max() < 0.3
    assert not [p for p in found.problems if "Residuals" in p or "Less than half" in p]


def test_report_of_evoked_responses(evoked_fit, tmp_path):
    path = write_report(evoked_fit, tmp_path / "evoked.html")
    text = path.read_text(encoding="utf-8")
    assert "among 2 sources (A1, STG) that explain evoked responses in 2 conditions" in text
    assert "fitted to 2 channels from 0 to 234 ms after the stimulus (40 samples)" in text
    assert "Effect deviant changes" in text and "of the baseline" in text
    assert text.count("<svg") == 6 and "NeuroImage 30:1255" in text
    assert "30:1273" not in text


def test_diverging_draws_are_left_out(evoked_fit):
    group = arviz_adapter.groups_of(evoked_fit.idata)["posterior_predictive"].copy(deep=True)
    for name in group.data_vars:
        group[name][0, 3] = np.nan
    fit = changed(evoked_fit, posterior_predictive=group)
    figure = plot.plot_fit(fit)
    assert np.isfinite(figure.axes[0].lines[-1].get_ydata()).all()
    note = "without 1 of 50 draws that diverge"
    assert note in figure.get_suptitle() and note in plot.plot_residuals(fit).get_suptitle()
    with pytest.warns(UserWarning, match="at 1 of 50 draws of the posterior"):
        assert np.isfinite(fit.predict()).all()
    explained = fit.diagnose().facts["explained_variance"]
    assert explained.shape == (2,) and 0.5 < explained[0] <= 1
    with pytest.raises(ValueError, match="diverges at every draw"):
        finite(np.full((2, 3), np.nan))


def test_powers_of_ten():
    assert power_of_thousand(np.array([-2500.0])) == 3
    assert power_of_thousand(np.zeros(2)) == 0
    assert power_text(3) == "10³ ×\xa0"
