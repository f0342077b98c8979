"""Functional connectivity, its dynamics, and scores made of them, against SciPy and brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from jax.test_util import check_grads

import bayesdcm
from bayesdcm.data import BoldData, Connectome, load_connectome
from bayesdcm.observe import (
    functional_connectivity,
    functional_connectivity_dynamics,
    functional_connectivity_dynamics_distance,
    kolmogorov_smirnov,
    linear_functional_connectivity,
    matrix_correlation,
    structure_function_coupling,
    upper_triangle,
    wasserstein,
)

METHODS = ("pearson", "shrunk", "partial", "shrunk partial")
NAMES = ["V1", "V5", "SPC", "FEF"]


@pytest.fixture(scope="module")
def signals():
    rng = np.random.default_rng(3)
    return rng.normal(size=(30, 4)) @ rng.normal(size=(4, 4)) + 100 * rng.normal(size=4)


def residuals(signals, i, others):
    design = np.column_stack([np.ones(len(signals)), signals[:, others]])
    return signals[:, i] - design @ np.linalg.lstsq(design, signals[:, i], rcond=None)[0]


def test_pearson(signals):
    found = functional_connectivity(signals)
    np.testing.assert_allclose(found, np.corrcoef(signals.T), atol=1e-12)


def test_shrunk_is_ledoit_and_wolfs(signals):
    z = (signals - signals.mean(0)) / signals.std(0)
    r = np.corrcoef(signals.T)
    error = np.mean([((np.outer(row, row) - r) ** 2).sum() for row in z]) / len(z)
    share = error / ((r - np.eye(4)) ** 2).sum()
    assert 0 < share < 1
    expected = (1 - share) * r + share * np.eye(4)
    np.testing.assert_allclose(functional_connectivity(signals, "shrunk"), expected, atol=1e-12)
    # Noise alone is shrunk to nothing, and regions may outnumber samples.
    noise = np.random.default_rng(0).normal(size=(20, 40))
    shrunk = functional_connectivity(noise, "shrunk")
    assert jnp.abs(shrunk - jnp.eye(40)).max() < 0.1
    assert jnp.isfinite(functional_connectivity(noise, "shrunk partial")).all()
    with pytest.raises(ValueError, match="needs more samples than regions, got 20 of 40"):
        functional_connectivity(noise, "partial")


def test_partial_is_the_correlation_of_what_others_do_not_explain(signals):
    found = functional_connectivity(signals, "partial")
    rest = [residuals(signals, i, [2, 3]) for i in (0, 1)]
    assert float(found[0, 1]) == pytest.approx(np.corrcoef(*rest)[0, 1], abs=1e-12)
    np.testing.assert_allclose(np.diag(found), 1.0, atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_batches_and_derivatives(signals, method):
    stack = jnp.stack([signals, signals[::-1] ** 2])
    found = functional_connectivity(stack, method)
    for one, matrix in zip(stack, found, strict=True):
        np.testing.assert_allclose(matrix, functional_connectivity(one, method), atol=1e-12)
    small = jnp.asarray(signals[:9] - signals[:9].mean(0))
    check_grads(lambda x: functional_connectivity(x, method)[0, 1:], (small,), 1, atol=1e-6,
                rtol=1e-6, eps=1e-5)  # fmt: skip


def test_labels_are_kept(signals):
    array = xr.DataArray(
        np.stack([signals.T] * 2, axis=1),
        dims=("region", "simulation", "time"),
        coords={"region": NAMES, "time": 0.5 * np.arange(30)},
    )
    found = functional_connectivity(array)
    assert found.dims == ("simulation", "region", "other region")
    expected = np.corrcoef(signals.T)
    assert float(found.sel(region="V1", simulation=1)[-1]) == pytest.approx(expected[0, -1])
    assert list(found["other region"].values) == NAMES
    data = BoldData(signals, 2.0, region_names=NAMES, unit="arbitrary")
    np.testing.assert_allclose(functional_connectivity(data), expected, atol=1e-12)
    dynamics = functional_connectivity_dynamics(data, window=10, stride=5)
    assert dynamics["other window"].values.tolist() == [9.0, 19.0, 29.0, 39.0, 49.0]
    late = array.isel(simulation=0).assign_coords(time=100 + 2.0 * np.arange(array.sizes["time"]))
    dynamics = functional_connectivity_dynamics(late, window=10, stride=5)
    assert dynamics["window"].values.tolist() == [109.0, 119.0, 129.0, 139.0, 149.0]


@pytest.mark.parametrize(
    ("series", "error", "text"),
    [
        (np.zeros(5), ValueError, r"shape \(5,\).*expected \(time, regions\)"),
        (np.zeros((1, 5)), ValueError, "at least two samples"),
        (np.array([[1.0, 2.0], [2.0, np.nan]]), ValueError, r"the first at index \(1, 1\)"),
        (np.array([[1.0, 2.0], [2.0, 2.0]]), ValueError, "constant in 1 column.s., the first in"),
        ({"bold": 1}, TypeError, r"take one variable, such as simulated\['bold'\]"),
        (xr.DataArray(np.zeros((2, 2)), dims=("a", "b")), ValueError, "expected 'time'"),
        (
            xr.DataArray(np.eye(3), dims=("time", "region"), coords={"time": [0, 1, 3]}),
            ValueError,
            "not equally spaced: steps from 1 to 2 s",
        ),
    ],
)
def test_what_is_no_series_is_refused(series, error, text):
    with pytest.raises(error, match=text):
        functional_connectivity(series)


def test_unknown_methods_list_the_known_ones(signals):
    with pytest.raises(ValueError, match="'pearson', 'shrunk', 'partial', 'shrunk partial'; got"):
        functional_connectivity(signals, "spearman")


def test_dynamics(signals):
    found = functional_connectivity_dynamics(signals, window=12, stride=3)
    rows = np.triu_indices(4, 1)
    windows = [np.corrcoef(signals[i : i + 12].T)[rows] for i in range(0, 19, 3)]
    np.testing.assert_allclose(found, np.corrcoef(windows), atol=1e-10)
    compiled = jax.jit(lambda x: functional_connectivity_dynamics(x, 12, 3))(jnp.asarray(signals))
    np.testing.assert_allclose(compiled, found, atol=1e-12)
    both = functional_connectivity_dynamics(jnp.stack([signals, signals[::-1]]), 12, 3)
    np.testing.assert_allclose(both[0], found, atol=1e-12)


def test_dynamics_by_default_are_those_of_the_literature():
    (bold,) = load_connectome("example").bold
    assert functional_connectivity_dynamics(bold).shape == (218, 218)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"window": 83}, "30 samples of 4 regions; expected .* two windows of 83 samples, 1 apart"),
        ({"window": 2}, "window counts samples and must be an integer of at least 3; got 2"),
        ({"window": 60.0}, "window counts samples"),
        ({"window": 5, "stride": 0}, "stride counts samples"),
    ],
)
def test_windows_that_do_not_fit_are_refused(signals, options, text):
    with pytest.raises(ValueError, match=text):
        functional_connectivity_dynamics(signals, **options)


@pytest.mark.parametrize("rounded", [False, True])
def test_distances_of_distributions(rounded):
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=40), 0.3 + 0.8 * rng.normal(size=25)
    if rounded:
        first, second = first.round(), second.round()
    expected = scipy.stats.ks_2samp(first, second).statistic
    assert float(kolmogorov_smirnov(first, second)) == pytest.approx(expected, abs=1e-12)
    expected = scipy.stats.wasserstein_distance(first, second)
    assert float(wasserstein(first, second)) == pytest.approx(expected, abs=1e-12)
    if not rounded:
        check_grads(lambda x: wasserstein(x, second), (first,), 1, atol=1e-6, rtol=1e-6, eps=1e-6)


def test_distances_of_dynamics(signals):
    matrices = [
        functional_connectivity_dynamics(part, window=8) for part in (signals, signals[:20])
    ]
    values = [np.asarray(matrix)[np.triu_indices(len(matrix), 1)] for matrix in matrices]
    found = functional_connectivity_dynamics_distance(*matrices)
    assert float(found) == pytest.approx(scipy.stats.ks_2samp(*values).statistic, abs=1e-12)
    with pytest.raises(ValueError, match="'kolmogorov_smirnov', 'wasserstein'; got 'ks'"):
        functional_connectivity_dynamics_distance(*matrices, metric="ks")

    def loss(x):
        dynamics = functional_connectivity_dynamics(x, window=8)
        return functional_connectivity_dynamics_distance(dynamics, matrices[0], "wasserstein")

    check_grads(loss, (jnp.asarray(signals[:14] - 100),), 1, ("rev",), 1e-5, 1e-5, eps=1e-6)


def test_matrices_are_correlated_over_pairs(signals):
    first, second = np.corrcoef(signals.T), np.corrcoef(signals[:9].T)
    rows = np.triu_indices(4, 1)
    expected = np.corrcoef(first[rows], second[rows])[0, 1]
    assert float(matrix_correlation(first, second)) == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(matrix_correlation(np.stack([first, second]), second)[1], 1.0)
    np.testing.assert_array_equal(upper_triangle(first), first[rows])
    with pytest.raises(ValueError, match=r"of \(4, 4\) and \(3, 3\) regions"):
        matrix_correlation(first, second[:3, :3])
    with pytest.raises(ValueError, match="expected square"):
        upper_triangle(first[:3])


def test_structure_function_coupling(signals):
    weights = np.abs(np.random.default_rng(2).normal(size=(4, 4))) * (1 - np.eye(4))
    functional = np.corrcoef(signals.T)
    rows = np.triu_indices(4, 1)
    pairs = functional[rows], ((weights + weights.T) / 2)[rows]
    for ranks, expected in (
        (False, np.corrcoef(*pairs)[0, 1]),
        (True, scipy.stats.spearmanr(*pairs).statistic),
    ):
        found = structure_function_coupling(functional, weights, ranks=ranks)
        assert float(found) == pytest.approx(expected, abs=1e-12)
    connectome = Connectome(weights, region_names=NAMES)
    data = BoldData(signals, 2.0, region_names=NAMES, unit="arbitrary")
    labelled = functional_connectivity(data)
    found = structure_function_coupling(labelled, connectome)
    assert float(found) == pytest.approx(np.corrcoef(*pairs)[0, 1], abs=1e-12)
    with pytest.raises(ValueError, match="name other regions, or in another order"):
        structure_function_coupling(labelled, connectome.subset(NAMES[::-1]))


def test_public_names():
    assert bayesdcm.functional_connectivity is functional_connectivity
    assert bayesdcm.functional_connectivity_dynamics is functional_connectivity_dynamics


def test_linear_network_has_the_correlations_of_its_simulation():
    weights = np.array([[0.0, 0.8, 0.0], [0.2, 0.0, 0.5], [0.0, 0.9, 0.0]])
    expected = linear_functional_connectivity(weights, share=0.7)
    rate = 0.7 / np.abs(np.linalg.eigvals(weights)).max() * weights - np.eye(3)
    # Stationary covariance of a fine discretisation, by its own recursion.
    step = 1e-3
    transition, covariance = np.eye(3) + step * rate, np.eye(3)
    for _ in range(18):
        covariance = covariance + transition @ covariance @ transition.T
        transition = transition @ transition
    sd = np.sqrt(np.diagonal(covariance))
    np.testing.assert_allclose(expected, covariance / np.outer(sd, sd), atol=1e-3)
    np.testing.assert_allclose(np.diagonal(expected), 1, rtol=1e-12)
    for share in (0.0, 1.0):
        with pytest.raises(ValueError, match="expected a number above 0 and below 1"):
            linear_functional_connectivity(weights, share)
    with pytest.raises(ValueError, match=r"shape \(2, 3\); expected a square matrix"):
        linear_functional_connectivity(weights[:2])
