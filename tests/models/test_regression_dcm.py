"""Regression DCM: the TAPAS toolbox's numbers, and the model beside them."""

from pathlib import Path

import numpy as np
import pytest

import bayesdcm
from bayesdcm import BoldData, RegressionDCM, fit
from bayesdcm.data import BoldDesign
from bayesdcm.observe import BoldRates, FilteredSpectra
from bayesdcm.observe.bold_rates import input_responses, linear_haemodynamics, whitening

CASES = ("r6", "r6_full", "r6_bil", "r6_f5_s", "r6_tr2", "r6_noiseless", "rest6")
SPARSE = tuple(case for case in CASES if case != "r6_bil")


@pytest.fixture(scope="session")
def tapas():
    """A function that gives the arrays of a case, by name."""
    with np.load(Path(__file__).parents[1] / "data" / "regression.npz") as arrays:
        table = dict(arrays)

    def of(case):
        return {
            name.partition("/")[2]: value
            for name, value in table.items()
            if name.startswith(f"{case}/")
        }

    return of


def run_of(given):
    """The data of a case; a region of signal 0, which data refuse, moves by 1e-13."""
    signal = given["y"].copy()
    signal[0, np.ptp(signal, axis=0) == 0] += 1e-13
    inputs = {}
    if "u" in given:
        inputs = {"inputs": given["u"].astype(float), "input_dt": float(given["TR"]) / 16}
    return BoldData(signal, float(given["TR"]), unit="percent", **inputs)


def model_of(given, **options):
    """The model of a case; "type s" has narrower priors of C, and no baseline."""
    b = given["b"]
    options.setdefault("A", given["a"])
    if "u" in given:
        options["C"] = given["c"]
        if b.ndim == 3 and b.any() and not options.get("sparse"):
            options["B"] = np.moveaxis(b, -1, 0)
        if float(given["C_scale"]) == 1:
            options["priors"] = {"C": (0.0, 1.0), "baseline": 0.0}
    return RegressionDCM(as_tapas=True, threshold=float(given["filter_str"]), **options)


def relative(values, expected):
    return np.abs(values - expected).max() / np.abs(expected).max()


# Against the toolbox


@pytest.mark.parametrize("case", CASES)
def test_spectra_are_the_toolboxs(tapas, case):
    given = tapas(case)
    spectra = FilteredSpectra(threshold=float(given["filter_str"])).spectra(run_of(given))
    if "h" in given:
        assert relative(spectra.response, given["h"].ravel()) < 1e-12
    assert (spectra.kept == given["Y_valid"]).all()
    if "X_y" in given:
        rows = given["Y_valid"]
        assert relative(spectra.signal, given["X_y"]) < 1e-12
        assert relative(spectra.inputs, given["X_u"]) < 1e-12
        assert relative(spectra.rates[rows], given["Y"][rows]) < 1e-12
        modulated = np.moveaxis(spectra.modulated, 0, 1).reshape(len(rows), -1)
        assert relative(modulated, given["X_yu"]) < 1e-11


@pytest.mark.parametrize("case", CASES)
def test_the_rigid_scheme_gives_the_toolboxs_numbers(tapas, case):
    given = tapas(case)
    model = model_of(given)
    result = fit(model, run_of(given), progress=False)
    assert result.method == "variational_bayes"
    assert relative(result.mean["A"], given["rigid_A"]) < 1e-8
    if "u" in given:
        assert relative(result.mean["C"], given["rigid_C"]) < 1e-8
    if "u" in given and float(given["C_scale"]) != 1:
        assert relative(result.mean["baseline"], given["rigid_baseline"].ravel()) < 1e-8
    if model.B.any():
        assert relative(result.mean["B"], np.moveaxis(given["rigid_B"], -1, 0)) < 1e-8
    energies = result.posterior.optima.free_energy
    np.testing.assert_allclose(energies, given["rigid_logF_r"].ravel(), atol=1e-6)
    assert result.log_evidence == pytest.approx(
        given["rigid_logF_r"].sum(), abs=1e-6 * len(energies)
    )
    # The toolbox's covariance of a region is over all regressors; A comes first.
    region, n = 0, len(given["y"].T)
    free = np.flatnonzero(given["a"][region])
    labels = [f"A[region 1, region {k + 1}]" for k in free]
    expected = given["rigid_sN"][region][:n, :n][np.ix_(free, free)]
    assert relative(result.covariance.loc[labels, labels].to_numpy(), expected) < 1e-6


@pytest.mark.parametrize("case", SPARSE)
def test_the_sparse_scheme_gives_the_toolboxs_numbers(tapas, case):
    given = tapas(case)
    n = len(given["y"].T)
    model = model_of(given, A=np.ones((n, n)), sparse=True, inclusion=float(given["p0"]))
    result = fit(model, run_of(given), progress=False)
    inclusion = result.posterior.optima.inclusion[: n * n].reshape(n, n)
    np.testing.assert_allclose(inclusion, given["seq_zA"], atol=1e-6)
    assert relative(result.mean["A"], given["seq_zA"] * given["seq_A"]) < 1e-8
    energies = result.posterior.optima.free_energy
    np.testing.assert_allclose(energies, given["seq_logF_r"].ravel(), atol=1e-5)


def test_what_is_certain_costs_its_prior_probability(tapas):
    given = tapas("r6_full")
    n, p = len(given["y"].T), float(given["p0"])
    data = run_of(given)
    model = model_of(given, A=np.ones((n, n)), sparse=True, inclusion=p)
    published = fit(model, data, progress=False)
    table = published.posterior.optima.inclusion[: n * n].reshape(n, n)
    certain = (table == 1) & ~np.eye(n, dtype=bool)
    left_out = -np.log(p) * certain.sum()
    assert left_out > 10
    from bayesdcm.infer.variational_bayes import _regions
    from bayesdcm.observe.linear_regression import sparse_posterior

    total = sum(
        sparse_posterior(region.regression, region.inclusion).free_energy[-1]
        for region in _regions(published.problem)
    )
    # Switches near 0, which the toolbox leaves out too, cost little.
    absent = -np.log1p(-p) * (table < 1e-10).sum()
    assert (
        published.log_evidence - left_out - absent - 1 < total < published.log_evidence - left_out
    )


def test_the_toolboxs_other_answer_of_one_region_is_an_optimum_too(tapas):
    """One region of thirty ends 21.5 nats lower: orders of visits lead to many optima."""
    from bayesdcm.observe import linear_regression as scheme

    given, region = tapas("r30_region"), 24
    size = len(given["seq_z"])
    inclusion, mean = np.full(size, float(given["p0"])), np.zeros(size)
    inclusion[[region, -1]], mean[region] = 1.0, -0.5
    precision = np.full(size, 30 / 8)
    precision[region], precision[-1] = 8 * 30, 1.0
    data = given["gram"], given["cross"], float(given["square"]), int(given["n_rows"])
    regression = scheme.Regression(*data, mean, precision, scheme.GammaNoise(2.0, 1.0))

    def found(order=None, **changed):
        return scheme.sparse_posterior(regression._replace(**changed), inclusion, order, True)

    # The region's own end is no matter of rounding.
    theirs, ours = float(given["seq_logF"]), found().free_energy[-1]
    assert ours - theirs == pytest.approx(-21.4786, abs=1e-3)
    rng = np.random.default_rng(0)
    for scale in 1 + 1e-8 * rng.normal(size=(3, size)):
        moved = {"gram": data[0] * np.outer(scale, scale), "cross": data[1] * scale}
        assert found(**moved).free_energy[-1] == pytest.approx(ours, abs=1e-3)
    # The toolbox's end stays where it is, and has its free energy.
    z, noise = given["seq_z"], float(given["seq_precision"])
    expected = scheme._expected_gram(data[0], np.diagonal(data[0]), z)
    root, volume = scheme._root(noise, expected, precision)
    covariance = root.T @ root
    centre = covariance @ (noise * z * data[1] + precision * mean)
    products = data[0] * (np.outer(centre, centre) + covariance)
    with np.errstate(divide="ignore"):
        gain = scheme.logit(inclusion) + noise * (centre * data[1] + np.diagonal(products) / 2)
    # Except a region without a signal, which the scheme settles by the size of its coefficient.
    swept = np.where(
        np.abs(centre) < 1e-5, 0, scheme._sweep(z, gain, noise * products, range(size))
    )
    np.testing.assert_allclose(swept, z, atol=1e-9)
    misfit = (
        data[2]
        - 2 * centre @ (z * data[1])
        + np.vdot(expected, np.outer(centre, centre) + covariance)
    )
    energy = regression.noise.posterior(data[3], misfit / 2).log_evidence
    energy -= data[3] * np.log(2 * np.pi) / 2
    energy += scheme._coefficient_terms(regression, centre, np.diagonal(covariance), volume)
    energy += scheme._inclusion_terms(z, inclusion, True)
    assert energy == pytest.approx(theirs, abs=1e-6)
    # It is one of many.
    ends = [found(rng.permutation(size)).free_energy[-1] for _ in range(20)]
    assert len(np.unique(np.round(ends, 1))) > 10 and max(ends) > theirs > min(*ends, ours)


# The model


@pytest.fixture(scope="module")
def resting():
    """Six regions at rest, of the model's own dynamics."""
    model = RegressionDCM(np.ones((6, 6)), measurement_noise=0.1)
    A = -0.5 * np.eye(6)
    A[1, 0], A[2, 1], A[3, 2], A[0, 3] = 0.4, -0.3, 0.3, 0.2
    parameters = {"A": A, "log_precision": np.full(6, 2.0)}
    design = BoldDesign(600, 0.72, None, None, list("abcdef"))
    return model, parameters, model.simulate(parameters, design, seed=3)


def test_connections_are_recovered(resting):
    model, parameters, data = resting
    result = fit(model, data, progress=False)
    z = (result.mean["A"] - parameters["A"]) / result.sd["A"]
    assert np.sqrt((z**2).mean()) < 1.3
    assert np.abs(result.mean["log_precision"] - 2.0).max() < 0.2
    chosen = RegressionDCM(np.ones((6, 6))).constants(data)["measurement_noise"]
    assert chosen == pytest.approx(0.1)


def test_confounds_are_removed_at_both_scans_of_a_rate(resting):
    """Motion that jumps from scan to scan changes nothing once it is given."""
    model, _, data = resting
    rng = np.random.default_rng(0)
    motion = np.column_stack([rng.normal(size=600), np.arange(600) == 100])
    moved = data.signal + motion @ rng.normal(scale=3.0, size=(2, 6))
    clean, cleaned = (
        fit(model, BoldData(y, 0.72, confounds=motion, unit="percent"), progress=False)
        for y in (data.signal, moved)
    )
    # Errors in what predicts remain; a confound of 600 rates costs little.
    np.testing.assert_allclose(cleaned.mean["A"], clean.mean["A"], atol=1e-4)
    assert np.abs(clean.mean["A"] - fit(model, data, progress=False).mean["A"]).max() < 0.02
    many = BoldData(data.signal, 0.72, confounds=rng.normal(size=(600, 320)), unit="percent")
    with pytest.raises(ValueError, match="321 columns, .* fit all 599 rates"):
        fit(model, many, progress=False)


def test_the_share_of_measurement_does_not_hang_on_the_order_of_regions(resting):
    _, _, data = resting
    rng, model = np.random.default_rng(0), RegressionDCM(np.ones((12, 12)))
    noise = rng.normal(size=(600, 12)) * np.where(np.arange(12) % 3 == 0, 2.0, 0.02)
    signal = np.hstack([data.signal, data.signal[::-1]]) + noise
    shares = set()
    for _ in range(4):
        shuffled = BoldData(signal[:, rng.permutation(12)], 0.72, unit="percent")
        shares.add(float(model.constants(shuffled)["measurement_noise"]))
    assert len(shares) == 1


def test_intervals_cover_what_the_model_simulates(resting):
    """Spectra of real series are counted once: 90 % intervals hold what they should."""
    model, parameters, _ = resting
    design = BoldDesign(300, 0.72, None, None, list("abcdef"))
    inside = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        A = -0.5 * np.eye(6) + 0.1 * rng.normal(size=(6, 6))
        data = model.simulate(parameters | {"A": A}, design, seed=seed)
        result = fit(model, data, progress=False)
        inside.append(np.abs(result.mean["A"] - A) < 1.645 * result.sd["A"])
    assert 0.86 < np.mean(inside) < 0.94


def test_what_is_predicted_is_each_scan_from_the_one_before(resting):
    model, _, data = resting
    result = fit(model, data, progress=False)
    signal = np.asarray(data.signal) - np.asarray(data.signal).mean(0)
    space = result.idata.posterior_predictive
    predicted = np.asarray(space["signal_fitted"])[0].mean(0)
    observed = np.asarray(result.idata.observed_data["signal"])
    np.testing.assert_allclose(observed, data.signal, atol=1e-9)
    # Whatever whitening does, it is a prediction: errors are those of the noise.
    error = white_error = (observed - predicted)[1:] / data.repetition_time
    white_error = whitening(599, 0.72, 0.1)(error)
    assert white_error.std() == pytest.approx(np.exp(-1.0), rel=0.05)
    assert error.std() < 0.5 * np.diff(signal, axis=0).std() / data.repetition_time + error.std()


def test_tasks_drive_and_modulate():
    rng = np.random.default_rng(0)
    inputs = np.repeat(rng.random((60, 2)) < 0.5, 80, axis=0).astype(float)
    design = BoldDesign(600, 1.0, inputs, 0.125, ["a", "b"], slice_delays=[0.0, 0.5])
    B = np.zeros((2, 2, 2))
    B[1, 1, 0] = 1
    model = RegressionDCM([[1, 0], [1, 1]], [[1, 0], [0, 0]], B=B, measurement_noise=0.1)
    parameters = {
        "A": np.array([[-0.5, 0.0], [0.3, -0.5]]),
        "B": 0.3 * B,
        "C": np.array([[4.0, 0.0], [0.0, 0.0]]),
        "log_precision": np.full(2, 4.0),
    }
    result = fit(model, model.simulate(parameters, design, seed=1), progress=False)
    for name in "ABC":
        free = np.asarray(result.sd[name]) > 0
        z = (result.mean[name] - parameters[name])[free] / result.sd[name][free]
        assert np.abs(z).max() < 3.5
    assert result.mean["B"][1, 1, 0] > 3 * result.sd["B"][1, 1, 0]
    clean = np.asarray(model.predict(parameters, design))
    assert clean.shape == (600, 2) and np.abs(clean).max() > 1
    noisy = model.simulate(parameters, design, seed=2, snr=4.0)
    assert clean.std() / (noisy.signal - clean).std() == pytest.approx(4.0, rel=0.1)


def test_inputs_pass_through_the_balloon_models_linear_part():
    inputs = np.ones((200, 1))
    data = BoldDesign(200, 1.0, inputs, 1.0, ["a"], slice_delays=[0.0])
    responses, levels = input_responses(data)
    assert responses[0, -1, 0] == pytest.approx(linear_haemodynamics().gain, rel=1e-6)
    assert levels[0, -1, 0] == pytest.approx(1.0, rel=1e-6)
    weak = bayesdcm.TaskDCM([[1]], C=[[1]])
    parameters = {"A": [[0.0]], "B": np.zeros((1, 1, 1)), "C": [[0.016]], "decay": 0.0}
    parameters |= {"transit": [0.0], "epsilon": 0.0}
    bold = np.asarray(weak.predict(parameters, data))[-1, 0]
    # At rest activity is input over decay: 0.001 / 0.5.
    assert bold == pytest.approx(linear_haemodynamics().gain * 0.002, rel=0.01)


def test_whitening_keeps_volumes_and_comes_back():
    white = whitening(50, 2.0, 0.3)
    assert np.log(np.diagonal(white.root)).sum() == pytest.approx(0.0, abs=1e-12)
    series = np.random.default_rng(0).normal(size=(50, 3))
    np.testing.assert_allclose(white.inverse(white(series)), series, atol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"A": np.ones((2, 3))}, "A must"),
        ({"A": np.ones((2, 2)), "sparse": 1}, "sparse must be True or False, got 1"),
        (
            {"A": np.ones((2, 2)), "C": np.ones((2, 1)), "B": np.ones((1, 2, 2)), "sparse": True},
            "sparse=True is for models without modulation",
        ),
        ({"A": np.ones((2, 2)), "measurement_noise": 2.0}, "a share from 0 to 1"),
        ({"A": np.ones((2, 2)), "sparse": True, "inclusion": 1.0}, "between 0 and 1, got 1.0"),
        ({"A": np.ones((2, 2)), "measurement_noise": "0.1"}, "must be a number, a share from"),
        ({"A": np.ones((2, 2)), "sparse": True, "inclusion": "0.5"}, "must be a number, a prob"),
        ({"A": np.ones((2, 2)), "inclusion": 0.1}, "inclusion is 0.1, but is for sparse=True"),
        ({"A": np.ones((2, 2)), "threshold": 2.0}, "threshold is 2.0, but is for as_tapas=True"),
        (
            {"A": np.ones((2, 2)), "measurement_noise": 0.1, "as_tapas": True},
            "measurement_noise is 0.1, but is for as_tapas=False",
        ),
        ({"A": np.ones((2, 2)), "as_tapas": True, "threshold": -1}, "threshold must be a number"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        RegressionDCM(**arguments)


def test_data_that_do_not_fit_are_refused(resting):
    model, parameters, data = resting
    with pytest.raises(ValueError, match="data has 6 regions, but the model has 2"):
        fit(RegressionDCM(np.ones((2, 2))), data)
    with pytest.raises(ValueError, match="lacks 'log_precision'"):
        model.simulate({"A": parameters["A"]}, data, seed=0)
    with pytest.raises(ValueError, match="inputs is None"):
        fit(RegressionDCM(np.ones((6, 6)), np.ones((6, 1))), data)
    task = BoldData(data.signal, 0.72, inputs=np.ones((864, 1)), input_dt=0.5, unit="percent")
    with pytest.raises(ValueError, match="in bins of repetition_time / 16"):
        fit(RegressionDCM(np.ones((6, 6)), np.ones((6, 1)), as_tapas=True), task)
    drifting = BoldData(data.signal, 0.72, confounds=np.arange(600.0)[:, None], unit="percent")
    with pytest.raises(ValueError, match="2 columns, but with as_tapas=True only a constant"):
        fit(RegressionDCM(np.ones((6, 6)), as_tapas=True), drifting)


def test_observers_are_parts_of_any_model(resting):
    model, _, data = resting
    assembled = bayesdcm.DCM(model.neural, model.solver, BoldRates(measurement_noise=0.1))
    assert fit(assembled, data, "laplace", progress=False).log_evidence == pytest.approx(
        fit(model, data, progress=False).log_evidence, abs=0.05
    )
