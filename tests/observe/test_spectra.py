"""Cross-spectra as real columns, SPM's precision and smoothing, likelihoods of both and series."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import null_space, solve_discrete_lyapunov
from scipy.special import multigammaln
from scipy.stats import multivariate_normal

from bayesdcm import SpectralData
from bayesdcm.integrate.complex_matrices import squares
from bayesdcm.integrate.hermitian import columns_to_entries, from_columns, to_columns
from bayesdcm.observe import WishartObservation, spectral_precision, wishart_constant
from bayesdcm.observe.autoregressive_smoothing import autoregressive_smoothing, smooth
from bayesdcm.observe.network_spectra import NetworkSpectra
from bayesdcm.observe.stationary_series import stationary_log_density

SPM = np.load(Path(__file__).parents[1] / "data" / "spm_spectral.npz")
SPECTRA = np.load(Path(__file__).parents[1] / "data" / "spm_spectra.npz")


def random_spectra(rows, n, seed=0):
    generator = np.random.default_rng(seed)
    half = generator.normal(size=(rows, n, 2 * n)) + 1j * generator.normal(size=(rows, n, 2 * n))
    return half @ half.conj().mT / (2 * n)


def test_columns_are_the_hermitian_matrix():
    spectra = random_spectra(4, 3)
    columns = to_columns(spectra)
    assert columns.dtype == float and columns.shape == (4, 9)
    np.testing.assert_allclose(from_columns(columns), spectra, atol=1e-15)
    np.testing.assert_allclose((columns**2).sum(1), (np.abs(spectra) ** 2).sum((1, 2)))
    entries = columns_to_entries(3)
    np.testing.assert_allclose(entries @ columns[0], spectra[0].ravel(), atol=1e-15)
    np.testing.assert_allclose(entries.conj().T @ entries, np.eye(9), atol=1e-15)
    np.testing.assert_array_equal(to_columns(jnp.asarray(spectra)), columns)


@pytest.mark.parametrize("case", ["3/fwd1", "3/fwd2", "3/fwd3", "4/fwd1", "4/fwd2"])
def test_smoothing_is_that_of_spm(case):
    smoothing = autoregressive_smoothing(SPECTRA[f"frequencies_{case[0]}"], 7)
    smoothed = jax.jit(lambda spectra: smooth(spectra, smoothing))(SPM[f"{case}/unsmoothed"])
    expected = SPM[f"{case}/spectra"]
    assert np.abs(smoothed - expected).max() < 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize("n", [3, 4])
def test_precision_is_that_of_spm(n):
    spectra = SPECTRA[f"spectra_{n}"]
    precision = spectral_precision(spectra)
    total = n**2 * precision.log_determinant
    assert total == pytest.approx(SPM[f"{n}/precision_log_determinant"].item(), rel=1e-10)
    # Quadratic forms of Hermitian residuals are those of the complex matrix.
    residual = random_spectra(32, n, seed=1)
    whitened = precision.whiten(to_columns(residual))
    np.testing.assert_allclose(precision.unwhiten(whitened), to_columns(residual), atol=1e-12)
    for row, block in zip((0, 31), SPM[f"{n}/precision"], strict=True):
        expected = np.einsum("ij,ijkl,kl", residual[row].conj(), block, residual[row]).real
        assert float((whitened[row] ** 2).sum()) == pytest.approx(expected, rel=1e-10)
    weighed, diagonal = precision.weigh(to_columns(residual))
    root = precision.root[0]
    np.testing.assert_allclose(weighed[0], root.T @ root @ to_columns(residual)[0], rtol=1e-10)
    np.testing.assert_allclose(diagonal[0], np.diagonal(root.T @ root))


def test_precision_of_conditions_is_repeated():
    spectra = SPECTRA["spectra_3"][:4]
    one, two = spectral_precision(spectra), spectral_precision(spectra, 2)
    assert two.root.shape == (8, 9, 9)
    assert two.log_determinant == pytest.approx(2 * one.log_determinant)


def test_wishart_density():
    """Against the density of one channel, a gamma distribution, and of several, by its formula."""
    from scipy import stats

    value, mean, v = 1.3, 0.7, 5.0
    constant = wishart_constant(np.array([[[value]]]), v)
    fn = WishartObservation(jnp.array([[mean]]), jnp.array([v]), jnp.asarray(constant))
    expected = stats.gamma(v, scale=mean / v).logpdf(value)
    found = jax.jit(fn.log_prob)(np.array([[value]]))
    assert float(found) == pytest.approx(expected, rel=1e-12)

    n, v = 3, 7.0
    observed, predicted = random_spectra(1, n)[0], random_spectra(1, n, seed=1)[0]
    constant = wishart_constant(observed[None], v)
    fn = WishartObservation(
        jnp.asarray(to_columns(predicted[None])), jnp.array([v]), jnp.asarray(constant)
    )
    scale = predicted / v
    log_gamma = n * (n - 1) / 2 * np.log(np.pi) + sum(multigammaln(v - i, 1) for i in range(n))
    expected = (
        (v - n) * np.linalg.slogdet(observed)[1]
        - np.trace(np.linalg.solve(scale, observed)).real
        - v * np.linalg.slogdet(scale)[1]
        - log_gamma
    )
    columns = to_columns(observed[None])
    whole, by_entry = jax.jit(lambda c: (fn.log_prob(c), fn.pointwise(c, c)))(columns)
    assert float(whole) == pytest.approx(expected, rel=1e-12)
    assert by_entry.sum() == pytest.approx(expected, rel=1e-12)
    # Fewer samples than channels have no density, but a likelihood.
    assert wishart_constant(observed[None], 2.0).tolist() == [0.0]


def test_many_channels_have_the_same_density_and_derivative():
    """Of more channels than are worked on at once: beside automatic derivatives of the formula."""
    rng = np.random.default_rng(4)
    parts = rng.normal(size=(2, 2, 2, 30, 40))
    transfer, observed = parts[0] + 1j * parts[1]
    observed = to_columns(observed @ observed.conj().mT / 40)
    direction = rng.normal(size=transfer.shape) + 1j * rng.normal(size=transfer.shape)

    def log_density(t):
        predicted = to_columns(squares(jnp.asarray(transfer) + t * direction))
        return WishartObservation(predicted, jnp.full(2, 50.0), jnp.zeros(2)).log_prob(observed)

    def by_formula(t):
        factor = transfer + t * direction
        predicted = factor @ factor.conj().mT
        ratio = jnp.trace(jnp.linalg.solve(predicted, from_columns(observed)), axis1=1, axis2=2)
        return -50 * (jnp.linalg.slogdet(predicted)[1] + ratio.real).sum()

    found, expected = (jax.jit(jax.value_and_grad(f))(0.1) for f in (log_density, by_formula))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_wishart_draws_have_their_mean_and_variance():
    predicted = random_spectra(2, 3)
    v = np.array([4.0, 2.0])
    fn = WishartObservation(jnp.asarray(to_columns(predicted)), jnp.asarray(v), jnp.zeros(2))
    drawn = from_columns(np.asarray(fn.sample(jax.random.key(0), (20_000,))))
    assert np.abs(drawn.mean(0) - predicted).max() < 0.03
    power = predicted.diagonal(axis1=1, axis2=2).real
    expected = power**2 / v[:, None]
    np.testing.assert_allclose(drawn.diagonal(axis1=2, axis2=3).real.var(0), expected, rtol=0.06)
    # As many independent samples as degrees of freedom.
    assert (np.linalg.matrix_rank(drawn[:3, 1], tol=1e-9) == 2).all()


def test_draws_scatter_as_estimates_that_share_samples_do():
    """Frequencies within a bandwidth count less, but each estimate is as good as any."""
    f = np.linspace(5, 15, 41)
    data = SpectralData(np.ones((41, 1, 1)), f, degrees_of_freedom=30, bandwidth=2.0)
    observer = NetworkSpectra(absolute=True)
    rows, noise = observer.observed(data, {})
    assert noise.degrees_of_freedom[3] == pytest.approx(30 / 8)
    fn = observer.likelihood(jnp.asarray(rows), jnp.zeros(()), noise)
    drawn = np.asarray(fn.sample(jax.random.key(0), (2000,)))
    np.testing.assert_allclose(drawn.std(0), 30**-0.5, rtol=0.1)
    design = data.replace(degrees_of_freedom=[[30.0] * 20 + [300.0] * 21])
    rng = np.random.default_rng(0)
    some = [
        observer.simulated(data.spectra, design, {}, None, None, rng).spectra for _ in range(200)
    ]
    spread = np.std(np.ravel(some, "F").reshape(-1, 200).real, axis=1)
    np.testing.assert_allclose(spread, np.r_[[30**-0.5] * 20, [300**-0.5] * 21], rtol=0.3)


def test_white_residuals_give_gradient_and_information():
    """What variational Laplace takes of the Wishart likelihood is its gradient, exactly."""
    v = jnp.array([3.0, 6.0])
    predicted, observed = random_spectra(2, 3), random_spectra(2, 3, seed=1)
    value = jnp.asarray(to_columns(observed))
    direction = jnp.asarray(to_columns(random_spectra(2, 3, seed=2)))

    def observation(t):
        return WishartObservation(jnp.asarray(to_columns(predicted)) + t * direction, v, v * 0)

    @jax.jit
    def parts(t):
        gradient = jax.grad(lambda t: observation(t).log_prob(value))(t)
        tangent = jax.jvp(lambda t: observation(t).linearised(value).columns, (t,), (1.0,))[1]
        # The curvature is that in the mean: of data that are as predicted.
        mean = observation(t).prediction
        exact = jax.grad(jax.grad(lambda t: observation(t).log_prob(mean)))(t)
        at = observation(t).linearised(value)
        return gradient, tangent, exact, at.residual, at.remainder, observation(t).log_prob(value)

    gradient, tangent, exact, residual, remainder, density = parts(0.0)
    assert float((tangent * residual).sum()) == pytest.approx(float(gradient), rel=1e-10)
    assert -float((tangent**2).sum()) == pytest.approx(float(exact), rel=1e-10)
    normal = -(residual**2).sum() / 2 - residual.size * np.log(2 * np.pi) / 2
    assert float(normal + remainder) == pytest.approx(float(density), rel=1e-12)


def test_predictions_that_are_no_spectra_have_no_density():
    fn = WishartObservation(jnp.array([[-1.0]]), jnp.ones(1), jnp.zeros(1))
    assert fn.log_prob(jnp.ones((1, 1))) == -jnp.inf


@pytest.mark.parametrize("n_confounds", [0, 2])
def test_stationary_series_have_the_density_of_their_covariance(n_confounds):
    """Of an autoregression of two series that do not run backwards as they run forwards."""
    samples, rng = 9, np.random.default_rng(0)
    step = np.array([[0.6, 0.2], [-0.3, 0.5]])
    at_once = solve_discrete_lyapunov(step, np.array([[1.0, 0.3], [0.3, 0.5]]))
    by_lag = np.stack([np.linalg.matrix_power(step, lag) @ at_once for lag in range(samples)])
    covariance = np.block(
        [
            [by_lag[t - s] if t >= s else by_lag[s - t].T for s in range(samples)]
            for t in range(samples)
        ]
    )
    drifts = np.stack([np.ones(samples), np.arange(samples)], axis=1)[:, :n_confounds]
    confounds = np.linalg.qr(drifts)[0]
    kept = np.kron(null_space(confounds.T) if n_confounds else np.eye(samples), np.eye(2))
    series = rng.normal(size=(samples, 2))
    expected = multivariate_normal(cov=kept.T @ covariance @ kept).logpdf(kept.T @ series.ravel())
    drifting = series + drifts @ rng.normal(size=(n_confounds, 2))
    log_density = jax.jit(stationary_log_density)
    assert float(log_density(by_lag, drifting, confounds)) == pytest.approx(expected, abs=1e-11)
    by_lag[1] *= 2
    assert log_density(by_lag, drifting, confounds) == -np.inf
