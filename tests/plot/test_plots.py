"""Every figure: it returns what it says, draws what it claims, and shows nothing."""

import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import bayesdcm
from bayesdcm import plot
from bayesdcm.compare import compare_posteriors
from bayesdcm.models.facts import Facts
from bayesdcm.plot.connections import read_connections
from bayesdcm.plot.quantities import quantity
from bayesdcm.plot.style import probability_text, signed
from bayesdcm.report import write_report

METHODS = ("laplace", "svi", "nuts")


def texts(drawn):
    """Everything written in a figure, no-break spaces as spaces."""
    figure = drawn if isinstance(drawn, Figure) else drawn.figure
    found = [item.get_text().replace("\xa0", " ") for item in figure.findobj(mpl.text.Text)]
    return [text for text in found if text]


@pytest.fixture(autouse=True)
def _nothing_else_changes(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *_, **__: pytest.fail("a plot was shown"))
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("method", METHODS)
def test_every_figure_of_every_method(loaded, method):
    fit = loaded[method]
    for parameter in ("A", "C", "effective_connectivity", "input_effect"):
        assert isinstance(plot.plot_connectivity(fit, parameter), Axes)
    for parameter in ("B", "modulated_connectivity"):
        assert isinstance(plot.plot_connectivity(fit, parameter), Figure)
    assert isinstance(plot.plot_network(fit), Axes)
    for draw in (plot.plot_fit, plot.plot_residuals, plot.plot_posterior):
        assert isinstance(draw(fit), Figure)
    plt.close("all")


def test_connectivity_writes_means_probabilities_and_absent_connections(study):
    ax = plot.plot_connectivity(study.laplace, "A")
    found, table = texts(ax), study.laplace.summary()
    assert signed(table.loc["A[V5, V1]", "mean"]) in found
    probability = table.loc["A[V5, V1]", "probability"]
    assert probability_text(probability).replace("\xa0", " ") in found
    hatched = [patch for patch in ax.patches if patch.get_hatch()]
    # V5 to V1, the one connection that is absent: row 0, column 1.
    assert [patch.get_xy() for patch in hatched] == [(0.5, -0.5)]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["V1", "V5"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("from region", "to region")
    assert "posterior mean (Hz;\ndiagonal: log scaling of 0.5 Hz)" in found


def test_figures_have_the_numbers_of_tables(study):
    """Of normal posteriors in closed form, of others from draws."""
    for fit in (study.laplace, study.nuts):
        table, shown = fit.summary(), quantity(fit, "A")
        for label in table.index[table.index.str.startswith("A[")]:
            at = tuple(shown.names["to"].index(name) for name in label[2:-1].split(", "))
            found = shown.mean[at], shown.probability[at]
            np.testing.assert_allclose(found, table.loc[label, ["mean", "probability"]], rtol=1e-9)
    connections = read_connections(study.laplace)
    table = study.laplace.summary()
    by_route = {(e.to, e.source): e for e in connections.entries}
    entry = by_route[1, 0]
    row = table.loc["A[V5, V1]"]
    assert connections.mean(entry.draws) == pytest.approx(row["mean"], abs=1e-12)
    assert connections.certainty(entry.draws) == pytest.approx(row["probability"], abs=1e-12)
    # What is no affine function of parameters has the mean of its draws.
    own = by_route[0, 0]
    assert connections.mean(own.draws) == own.draws.mean()


def test_connectivity_centres_colours_on_zero_and_fades_the_uncertain(study):
    sure = plot.plot_connectivity(study.laplace, "A", probability=0.0)
    strict = plot.plot_connectivity(study.laplace, "A", probability=1.01)
    bar = next(ax for ax in sure.figure.axes if ax is not sure)
    low, high = bar.get_ylim()
    assert low == -high
    pale, full = strict.images[0].get_array(), sure.images[0].get_array()
    assert pale[1, 0, :3].sum() > full[1, 0, :3].sum()
    assert any("sign uncertain" in text for text in texts(strict))
    assert not any("sign uncertain" in text for text in texts(sure))


def test_connectivity_writes_no_probability_where_the_prior_fixes_the_sign(study):
    found = texts(plot.plot_connectivity(study.laplace, "effective_connectivity"))
    # Of three connections two are self-connections, which are negative by construction.
    assert sum(text.startswith("P ") for text in found) == 1


def test_modulations_have_a_panel_for_each_input_that_modulates(study):
    figure = plot.plot_connectivity(study.laplace, "B")
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert [title for title in titles if title] == ["by Motion"]
    figure, axes = plt.subplots()
    assert plot.plot_connectivity(study.laplace, "B", ax=axes) is figure


def test_connectivity_draws_into_given_axes(study):
    _, ax = plt.subplots()
    assert plot.plot_connectivity(study.laplace, ax=ax) is ax


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parameter": "E"}, "must be one of 'A'"),
        ({"parameter": "transit"}, "must be a matrix .* such as 'A', 'B', 'C' and 3 more"),
        ({"parameter": "A", "ax": "two"}, "must hold 1 axes"),
    ],
)
def test_connectivity_says_what_is_wrong(study, arguments, message):
    if "ax" in arguments:
        arguments = arguments | {"ax": plt.subplots(1, 2)[1]}
    with pytest.raises(ValueError, match=message):
        plot.plot_connectivity(study.laplace, **arguments)


def test_fits_without_regions_have_no_network(program_fit):
    with pytest.raises(ValueError, match="effective_connectivity"):
        plot.plot_network(program_fit)


def test_network_names_regions_inputs_and_strengths(study):
    ax = plot.plot_network(study.laplace)
    found = texts(ax)
    rate = np.asarray(study.laplace.idata.posterior["effective_connectivity"]).mean((0, 1))
    drive = np.asarray(study.laplace.idata.posterior["input_effect"]).mean((0, 1))
    for text in ("V1", "V5", "Photic", signed(rate[1, 0]), signed(rate[0, 0]), signed(drive[0, 0])):
        assert text in found
    assert any(text.startswith("Motion +") for text in found)
    arrows = [p for p in ax.patches if isinstance(p, mpl.patches.FancyArrowPatch)]
    assert len(arrows) == 2  # V1 to V5, Photic to V1
    assert ax.get_title(loc="left") == "Effective connectivity in Hz (laplace)"


def test_network_leaves_improbable_connections_out_unless_modulated(study):
    ax = plot.plot_network(study.laplace, minimum_probability=1.01)
    arrows = [p for p in ax.patches if isinstance(p, mpl.patches.FancyArrowPatch)]
    assert len(arrows) == 2


def test_fit_draws_data_band_and_inputs(study):
    figure = plot.plot_fit(study.laplace)
    first, second, inputs = figure.axes
    data, mean = first.lines[-2:]
    np.testing.assert_allclose(data.get_ydata(), study.data.signal[:, 0])
    np.testing.assert_allclose(data.get_xdata(), study.data.times)
    predicted = study.laplace.predict().to_numpy()
    np.testing.assert_allclose(mean.get_ydata(), predicted[:, 0])
    assert second.get_ylabel() == "V5"
    assert [label.get_text() for label in inputs.get_yticklabels()] == ["Photic", "Motion"]
    assert figure.get_supxlabel() == "time (s)"
    assert "fit, 90 % credible band" in texts(figure)


def test_fit_bands_hold_the_share_of_draws_that_they_say(study):
    figure = plot.plot_fit(study.nuts, interval=0.5)
    band = figure.axes[0].collections[0].get_paths()[0].get_extents()
    draws = np.asarray(study.nuts.idata.posterior_predictive["signal_fitted"])
    low, high = np.quantile(draws.reshape(-1, 60, 2)[:, :, 0], [0.25, 0.75], axis=0)
    np.testing.assert_allclose([band.ymin, band.ymax], [low.min(), high.max()])


def test_residuals_are_what_the_fit_leaves(study):
    figure = plot.plot_residuals(study.laplace, n_lags=10)
    assert len(figure.axes) == 4
    expected = study.data.signal[:, 0] - study.laplace.predict().to_numpy()[:, 0]
    np.testing.assert_allclose(figure.axes[0].lines[-1].get_ydata(), expected, atol=1e-9)
    points = figure.axes[1].collections[-1].get_offsets()
    np.testing.assert_allclose(points[:, 0], 2.0 * np.arange(1, 11))
    centred = expected - expected.mean()
    assert points[0, 1] == pytest.approx(centred[1:] @ centred[:-1] / (centred @ centred))
    assert len(points) == 10
    with pytest.raises(ValueError, match="n_lags must be from 1 to 30"):
        plot.plot_residuals(study.laplace, n_lags=31)


def test_fit_and_residuals_of_any_gaussian_program(program_fit, program_svi):
    assert isinstance(plot.plot_fit(program_svi), Figure)
    assert len(plot.plot_fit(program_fit).axes) == 1
    assert plot.plot_residuals(program_fit).axes[0].get_xlabel() == "data point"
    assert "slope[1]" in texts(plot.plot_posterior(program_fit))


def test_posteriors_of_several_fits_with_their_prior(study):
    fits = {"laplace": study.laplace, "nuts": study.nuts}
    figure = plot.plot_posterior(fits, ["A[V5, V1]", "transit_time[V1]"])
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["A[V5, V1]", "transit_time[V1]"]
    assert [ax.get_xlabel() for ax in figure.axes] == ["Hz", "s"]
    line = figure.axes[0].lines[0]
    x, density = line.get_data()
    assert np.trapezoid(density, x) == pytest.approx(1, abs=0.02)
    assert x[density.argmax()] == pytest.approx(study.laplace.mean["A"][1, 0], abs=0.1)
    assert {"prior", "laplace", "nuts"} <= set(texts(figure))
    without = plot.plot_posterior(fits, "A[V5, V1]", prior=False)
    assert "prior" not in texts(without) and len(without.axes[0].lines) == 2


def test_posteriors_default_to_the_worst_and_to_the_first(study):
    fits = {"laplace": study.laplace, "nuts": study.nuts}
    titles = [ax.get_title(loc="left") for ax in plot.plot_posterior(fits).axes]
    assert titles == list(compare_posteriors(fits)["parameter"][:8])
    titles = [ax.get_title(loc="left") for ax in plot.plot_posterior(study.nuts).axes]
    assert titles == list(study.nuts.summary().index[:8])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["A[V9, V1]"], r"'A\[V9, V1\]' is not a parameter .* A\[V5, V1\]"),
        (["A[V1, V5]"], "is constant"),
        ([], "at least one"),
    ],
)
def test_unknown_labels_list_the_known(study, labels, message):
    with pytest.raises(ValueError, match=message):
        plot.plot_posterior(study.laplace, labels)


def test_posteriors_take_fits_only():
    with pytest.raises(TypeError, match="got int for 'a'"):
        plot.plot_posterior({"a": 1})
    with pytest.raises(ValueError, match="empty"):
        plot.plot_posterior({})


def test_free_energy_by_iteration(study, loaded):
    ax = plot.plot_free_energy(loaded["laplace"])
    trace = study.laplace.trace
    taken = ax.lines[1]
    expected = trace["free_energy"][trace["accepted"] > 0.5]
    np.testing.assert_allclose(taken.get_ydata(), expected)
    assert ax.get_ylabel() == "free energy (nats)"
    assert f"{study.laplace.log_evidence:.1f} nats" in ax.get_title(loc="right")


def test_free_energy_marks_steps_taken_back(study, loaded):
    fit = loaded["laplace"]
    fit.trace = {
        "free_energy": np.array([-50.0, -40.0, -45.0, np.nan, -30.0]),
        "accepted": np.array([1.0, 1.0, 0.0, 0.0, 1.0]),
    }
    ax = plot.plot_free_energy(fit)
    by_label = {line.get_label(): line for line in ax.lines}
    assert by_label["step taken back"].get_xdata().tolist() == [3]
    assert by_label["step taken back, below the axis"].get_xdata().tolist() == [4]
    np.testing.assert_array_equal(by_label["best so far"].get_ydata(), [-50, -40, -40, -40, -30])


def test_evidence_bound_of_svi(program_svi):
    ax = plot.plot_free_energy(program_svi)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), program_svi.trace["elbo"])
    assert ax.get_ylabel() == "evidence lower bound (nats)"


def test_nuts_has_no_free_energy(study):
    with pytest.raises(ValueError, match="'nuts' has no free energy; plot_posterior"):
        plot.plot_free_energy(study.nuts)


def test_comparison_has_the_worst_on_top(study):
    table = compare_posteriors(study.fits)
    figure = plot.plot_comparison(table, limit=5)
    left, right = figure.axes
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert labels == list(table["parameter"].unique()[:5])
    assert left.get_ylim()[0] > left.get_ylim()[1]
    shifts = left.collections[0].get_offsets()[:, 0]
    first = table[table["fit"] == table["fit"].iloc[0]]
    expected = first.set_index("parameter")["shift"]
    for label, shift in zip([*labels], [*expected[labels]], strict=True):
        assert shift in shifts, label
    assert "nuts" in left.get_xlabel() and "relative" in right.get_xlabel()


def test_comparison_takes_its_table_only(study):
    with pytest.raises(TypeError, match="got dict"):
        plot.plot_comparison({})
    with pytest.raises(ValueError, match="lacks 'parameter'"):
        plot.plot_comparison(pd.DataFrame({"shift": [1.0]}))
    with pytest.raises(ValueError, match="limit must be at least 1"):
        plot.plot_comparison(compare_posteriors(study.fits), limit=0)


class Columns:
    """A model that this package does not know: couplings of columns, seen as a spectrum."""

    observed_site = "power"
    names = np.array(["K1", "K2", "K3"])

    def facts(self):
        return Facts(
            kind="spectra of columns",
            node="column",
            units={"W": "nA"},
            titles={"W": "Couplings W"},
            headline=("W",),
            axes={"frequency": ("frequency", "kHz", 1e-3)},
            sample="bin",
            label_note="Labels read W[to column, from column]. ",
            citations=[("Nobody N (2024). Columns.", "https://example.org/columns")],
        )

    def sample(self, data):
        decay = numpyro.sample("decay", dist.Normal(0.0, 0.1))
        W = numpyro.sample("W", dist.Normal(np.zeros((3, 3)), 1.0).to_event(2))
        C = numpyro.sample("C", dist.Normal(np.zeros((3, 1)), 1.0).to_event(2))
        basis = jnp.stack([data["frequency"] ** k for k in range(3)], axis=1) / 1e6
        mean = jnp.exp(-decay) * basis @ W.T[:, :2] + C[:2, 0]
        numpyro.sample("power", bayesdcm.observe.gaussian(mean, 4.0), obs=data["power"])

    program = sample

    def prepare(self, data):
        return data

    def labels(self, data):
        pairs = [f"W[{i}, {j}]" for i in self.names for j in self.names]
        inputs = [f"C[{i}, pulse]" for i in self.names]
        return {"decay": ["decay"], "C": inputs, "W": pairs}

    def dims(self):
        return {"W": ("to", "from"), "C": ("node", "input"), "power": ("frequency", "lead")}

    def coords(self, data):
        leads = np.array(["left", "right"])
        return {
            "to": self.names, "from": self.names, "node": self.names,
            "input": np.array(["pulse"]), "frequency": data["frequency"], "lead": leads,
        }  # fmt: skip

    def constants(self, data):
        return {}

    def restore(self, values, data):
        return values

    arrange = restore

    def __repr__(self):
        return "Columns(3)"


@pytest.fixture(scope="module")
def columns():
    frequency = np.linspace(100.0, 1000.0, 40)
    W = np.array([[0.0, 2.0], [1.0, 0.0], [0.0, 2.0]])
    mean = np.stack([frequency**k for k in range(3)], axis=1) @ W / 1e6
    noise = np.random.default_rng(0).normal(0, np.exp(-2.0), mean.shape)
    data = {"frequency": frequency, "power": mean + noise}
    return bayesdcm.fit(Columns(), data, progress=False, draws=200)


def test_a_model_with_other_nouns_and_axes_is_drawn_with_them(columns):
    figure = plot.plot_fit(columns)
    assert figure.get_supxlabel() == "frequency (kHz)"
    assert [ax.get_ylabel() for ax in figure.axes] == ["left", "right"]
    np.testing.assert_allclose(figure.axes[0].lines[-1].get_xdata()[[0, -1]], [0.1, 1.0])
    residuals = plot.plot_residuals(columns)
    assert residuals.axes[3].get_xlabel() == "lag (kHz)"
    assert residuals.axes[2].get_xlabel() == "frequency (kHz)"
    network = plot.plot_network(columns)
    assert network.get_title(loc="left") == "Couplings W in nA (laplace)"
    assert {"K1", "K2", "K3", "pulse"} <= set(texts(network))
    matrix = plot.plot_connectivity(columns, "W")
    assert (matrix.get_xlabel(), matrix.get_ylabel()) == ("from column", "to column")
    assert "posterior mean (nA)" in texts(matrix)
    drives = plot.plot_connectivity(columns, "C")
    assert (drives.get_xlabel(), drives.get_ylabel()) == ("input", "column")
    densities = plot.plot_posterior(columns)
    assert densities.axes[0].get_title(loc="left") == "W[K1, K1]"
    assert densities.axes[0].get_xlabel() == "nA"
    assert isinstance(plot.plot_subjects([columns, columns], "right"), Figure)
    with pytest.raises(ValueError, match="those of W are in nA; plot_network"):
        plot.plot_connection_strengths(columns)
    with pytest.raises(ValueError, match="such as 'C' and 'W'; got 'decay', which has the axes"):
        plot.plot_connectivity(columns, "decay")


def test_its_report_has_its_nouns_units_and_citations(columns, tmp_path):
    text = write_report(columns, tmp_path / "columns.html").read_text(encoding="utf-8")
    assert (
        "Connections among 3 columns (K1, K2, K3), fitted to 40 bins from 0.1 to 1 kHz, by" in text
    )
    assert "Labels read W[to column, from column]." in text
    assert "Nobody N (2024). Columns." in text and "https://example.org/columns" in text
    assert "Couplings W: " in text and " nA (P" in text
    assert "In nA; rows receive, columns send." in text and "influenced column;" in text
    assert text.count("<svg") == 6


@pytest.fixture(scope="module")
def many_regions():
    """Twenty-four regions in two networks, by regression DCM."""
    names = [f"R{k + 1}" for k in range(24)]
    half = np.arange(24) // 12
    rng = np.random.default_rng(0)
    strengths = np.where(half[:, None] == half, 0.2 * rng.random((24, 24)), 0.0)
    A = 0.35 * strengths / np.abs(np.linalg.eigvals(strengths)).max() - 0.5 * np.eye(24)
    model = bayesdcm.RegressionDCM(np.ones((24, 24)), measurement_noise=0.1)
    design = bayesdcm.BoldDesign(300, 1.0, None, None, names)
    data = model.simulate({"A": A, "log_precision": np.full(24, 2.0)}, design, seed=1)
    networks = {name: ("visual", "motor")[k] for name, k in zip(names, half, strict=True)}
    return bayesdcm.fit(model, data, progress=False), networks


def test_many_regions_are_ordered_by_network(many_regions):
    fit, networks = many_regions
    figure = plot.plot_connectivity(fit, groups=networks)
    regions, means = figure.axes[:2]
    assert [label.get_text() for label in regions.get_yticklabels()] == ["visual", "motor"]
    within = np.array(list(networks.values())) == "visual"
    mean = np.where(np.eye(24, dtype=bool), np.nan, fit.mean["A"])[np.ix_(within, within)]
    (written, *_) = [text for text in texts(means) if text[0] in "+-−"]
    assert float(written.replace("−", "-")) == pytest.approx(np.nanmean(mean), abs=2e-3)
    clusters = plot.plot_connectivity(fit, groups=2)
    assert "cluster 2" in texts(clusters)
    plt.close("all")


def test_graph_of_many_regions_draws_the_certain_connections(many_regions):
    fit, networks = many_regions
    summary = fit.summary()
    certain = summary.index.str.startswith("A[") & (summary["probability"] >= 0.95)
    between = [label[2:-1].split(", ") for label in summary.index[certain]]
    count = sum(to != source for to, source in between)
    rng = np.random.default_rng(0)
    for drawn in (
        plot.plot_network(fit),
        plot.plot_network(fit, groups=networks),
        plot.plot_network(fit, centres=rng.normal(size=(24, 3))),
    ):
        written = " ".join(texts(drawn))
        assert f"of {count} connections" in written
        assert "of 552" in written
    plt.close("all")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (1, "groups must be from 2 to 24 clusters of regions, got 1"),
        ({"R1": "visual"}, "groups must have a network for each region; it lacks R2"),
        (["visual"] * 3, "groups must have a network for each of 24 regions, got 3"),
        ("visual", "groups must be a number of clusters"),
    ],
)
def test_networks_of_regions_are_checked(many_regions, groups, message):
    with pytest.raises((TypeError, ValueError), match=message):
        plot.plot_connectivity(many_regions[0], groups=groups)
    with pytest.raises(ValueError, match=r"centres must be .* of 24 regions in mm"):
        plot.plot_network(many_regions[0], centres=np.zeros((3, 3)))


@pytest.mark.slow
def test_spectra_have_a_panel_for_each_pair(tmp_path):
    design = bayesdcm.BoldDesign(120, 2.0, None, None, ["V1", "V5"])
    model = bayesdcm.SpectralDCM([[1, 0], [1, 1]])
    bold = model.simulate({prior.name: prior.mean for prior in model.priors}, design, seed=1)
    data = bayesdcm.SpectralData.from_bold(bold)
    fit = bayesdcm.fit(model, data, draws=50, progress=False)
    power = plot.plot_fit(fit)
    drawn = [ax for ax in power.axes if ax.lines]
    assert len(drawn) == 3
    assert {"V1", "V5", "V1, V5"} <= set(texts(power))
    observed = data.spectra[0, :, 0, 0].real
    assert any(np.allclose(line.get_ydata(), observed) for line in drawn[0].lines)
    coherence = plot.plot_coherence(fit)
    observed = data.coherence[0, :, 0, 1]
    shown = [line.get_ydata() for ax in coherence.axes for line in ax.lines]
    assert any(np.shape(y) == observed.shape and np.allclose(y, observed) for y in shown)
    assert isinstance(plot.plot_residuals(fit), Figure)
    with pytest.raises(ValueError, match="names"):
        plot.plot_coherence(fit, names=["V2"])
    page = write_report(fit, tmp_path / "rest.html").read_text(encoding="utf-8")
    said = f"fitted to cross-spectra of 2 channels at {data.n_frequencies} frequencies from"
    assert said in page and "Coherence and phase" in page
    plt.close("all")


@pytest.mark.slow
def test_report_of_many_regions_is_short(many_regions, tmp_path, monkeypatch):
    monkeypatch.setattr("bayesdcm.report.page.MOST_ROWS", 30)
    fit, networks = many_regions
    page = write_report(fit, tmp_path / "many.html", groups=networks).read_text(encoding="utf-8")
    assert "among 24 regions (R1, R2, R3 and 21 more), fitted to 300 scans" in page
    assert "means over networks" in page and "more of 552" in page
    assert f"30 of {len(fit.labels)}, those whose means are largest" in page
    assert page.count("<td>A[") == 30
    energy = plot.plot_free_energy(fit)
    assert energy.get_title(loc="left") == "Variational Bayes"
    drawn = plot.plot_fit(fit)
    assert len(drawn.axes) == 12 and "12 of 24" in drawn.get_suptitle()
    chosen = plot.plot_fit(fit, names=["R7", "R2"])
    assert [ax.get_ylabel() for ax in chosen.axes] == ["R7", "R2"]
    plt.close("all")
