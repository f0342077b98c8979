"""The Gaussian observation against dense multivariate normal densities and least squares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from bayesdcm.observe import confound_basis, gaussian, temporal_precision

TIMES, COLUMNS = 7, 2
SIZE = TIMES * COLUMNS
CONFOUND_VARIANCE = 1e8


KINDS = ["columns", "one for all", "diagonal", "dense", "temporal 1", "temporal 2"]


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(3)


def components(kind, rng):
    """Precision components of a kind, their log-precisions, and the dense precision."""
    if kind == "columns":
        log_precision = np.array([0.3, -0.8])
        return None, log_precision, np.diag(np.tile(np.exp(log_precision), TIMES))
    if kind == "one for all":
        return None, np.array([0.4]), np.exp(0.4) * np.eye(SIZE)
    log_precision = np.array([0.2, -0.5, 0.1])
    if kind == "diagonal":
        Q = rng.uniform(0, 1, (3, SIZE))
        return Q, log_precision, np.diag(np.exp(log_precision) @ Q)
    if kind.startswith("temporal"):
        # Columns run fastest in the flattened array.
        count = int(kind.split()[1])
        roots = rng.normal(size=(count, TIMES, TIMES))
        Q, log_precision = roots @ roots.transpose(0, 2, 1) / TIMES, log_precision[:count]
        return Q, log_precision, np.kron(np.tensordot(np.exp(log_precision), Q, 1), np.eye(COLUMNS))
    roots = rng.normal(size=(3, SIZE, SIZE))
    Q = roots @ roots.transpose(0, 2, 1) / SIZE
    return Q, log_precision, np.tensordot(np.exp(log_precision), Q, 1)


@pytest.fixture(scope="module", params=KINDS)
def noise(request, rng):
    return components(request.param, np.random.default_rng(8))


@pytest.fixture(scope="module")
def some_confounds():
    t = np.linspace(-1, 1, TIMES)
    return np.stack([np.ones(TIMES), t, 5 * t**2 + t], axis=1)


@pytest.fixture(scope="module", params=[True, False], ids=["confounds", "no confounds"])
def confounds(request, some_confounds):
    return some_confounds if request.param else None


@pytest.fixture(scope="module")
def prediction():
    return np.random.default_rng(1).normal(size=(TIMES, COLUMNS))


@pytest.fixture(scope="module")
def value():
    return np.random.default_rng(2).normal(size=(TIMES, COLUMNS)) * 2


def design_matrix(confounds):
    """Confounds of each column over the flattened array (C order: columns run fastest)."""
    return np.kron(confounds, np.eye(COLUMNS))


def make(prediction, noise, confounds, **options):
    Q, log_precision, _ = noise
    return gaussian(jnp.asarray(prediction), jnp.asarray(log_precision), Q, confounds, **options)


def test_log_density(prediction, value, noise, confounds):
    # With the confounds' own precision of 1e-8, scipy calls the dense covariance singular.
    prior_precision = 1e-4
    covariance = np.linalg.inv(noise[2])
    if confounds is not None:
        X = design_matrix(confounds)
        covariance = covariance + X @ X.T / prior_precision
    expected = multivariate_normal(prediction.ravel(), covariance).logpdf(value.ravel())
    observation = make(prediction, noise, confounds, confound_precision=prior_precision)
    assert float(jax.jit(observation.log_prob)(value)) == pytest.approx(expected, abs=1e-7)


def test_density_is_exact_where_the_dense_one_loses_digits(prediction, value):
    """By the matrix determinant lemma in extended precision, one column and one constant."""
    n, w, y = TIMES, np.exp(1.5), value[:, 0] - prediction[:, 0]
    n_, w_ = np.longdouble(n), np.longdouble(w)
    inflation = 1 + w_ * n_ * np.longdouble(CONFOUND_VARIANCE)
    mean = y.mean()
    quadratic = w_ * ((y - mean) ** 2).sum() + w_ * n_ * mean**2 / inflation
    expected = (n_ * np.log(w_) - np.log(inflation) - quadratic - n_ * np.log(2 * np.pi)) / 2
    observation = gaussian(prediction[:, 0], jnp.array(1.5), confounds=np.ones((n, 1)))
    assert float(observation.log_prob(value[:, 0])) == pytest.approx(float(expected), abs=1e-12)


def test_confounds_in_the_data_change_next_to_nothing(prediction, value, noise, some_confounds):
    observation = make(prediction, noise, some_confounds)
    shift = some_confounds @ np.full((some_confounds.shape[1], COLUMNS), 3.0)
    log_prob = jax.jit(observation.log_prob)
    assert abs(float(log_prob(value + shift)) - float(log_prob(value))) < 1e-6


def test_fitted_is_the_generalised_least_squares_fit(prediction, value, noise, confounds):
    observation = make(prediction, noise, confounds)
    fitted = jax.jit(observation.fitted)(value)
    if confounds is None:
        np.testing.assert_array_equal(fitted, prediction)
        return
    X, P = design_matrix(confounds), noise[2]
    beta = np.linalg.solve(X.T @ P @ X, X.T @ P @ (value - prediction).ravel())
    np.testing.assert_allclose(fitted, prediction + (X @ beta).reshape(value.shape), atol=1e-6)


def test_fitted_draws_have_the_posterior_of_the_confounds(prediction, value, noise, some_confounds):
    observation = make(prediction, noise, some_confounds)
    keys = jax.random.split(jax.random.key(0), 4000)
    fitted = jax.jit(
        lambda keys: [
            observation.fitted(value),
            jax.vmap(observation.fitted, (None, 0))(value, keys),
        ]
    )
    mean, draws = jax.device_get(fitted(keys))
    X, P = design_matrix(some_confounds), noise[2]
    sd = np.sqrt(np.diag(X @ np.linalg.inv(X.T @ P @ X) @ X.T)).reshape(value.shape)
    z = (draws.mean(0) - mean) / (sd / np.sqrt(len(draws)))
    assert np.abs(z).max() < 4.5
    np.testing.assert_allclose(draws.std(0), sd, rtol=0.06)


def test_samples_have_the_mean_and_covariance_of_the_noise(prediction, noise):
    observation = make(prediction, noise, None)
    draws = np.asarray(jax.jit(lambda key: observation.sample(key, (20_000,)))(jax.random.key(1)))
    assert draws.shape == (20_000, TIMES, COLUMNS)
    flat = draws.reshape(len(draws), SIZE)
    covariance = np.linalg.inv(noise[2])
    sd = np.sqrt(np.diag(covariance))
    assert np.abs((flat.mean(0) - prediction.ravel()) / sd).max() < 4.5 / np.sqrt(len(draws))
    correlation_error = (np.cov(flat.T) - covariance) / np.outer(sd, sd)
    assert np.abs(correlation_error).max() < 0.05
    one = jax.eval_shape(observation.sample, jax.random.key(1))
    assert one.shape == (TIMES, COLUMNS)


def test_whitened_residual(prediction, value, noise, confounds):
    """Its square is the least that any coefficients of the confounds leave."""
    residual, P = (value - prediction).ravel(), noise[2]
    root = np.linalg.cholesky(P).T
    expected = root @ residual
    if confounds is not None:
        X = root @ design_matrix(confounds)
        expected = expected - X @ np.linalg.lstsq(X, expected, rcond=None)[0]
    made = jax.jit(make(prediction, noise, confounds).whitened_residual)(value)
    assert made.shape == value.shape
    np.testing.assert_allclose(np.ravel(made), expected, atol=1e-8)


def test_one_column_may_be_a_vector(prediction, value):
    vector = gaussian(prediction[:, 0], jnp.zeros(1))
    matrix = gaussian(prediction[:, :1], jnp.zeros(()))
    assert vector.event_shape == (TIMES,) and matrix.event_shape == (TIMES, 1)
    assert vector.log_prob(value[:, 0]) == matrix.log_prob(value[:, :1])
    assert vector.sample(jax.random.key(0), (5,)).shape == (5, TIMES)
    fitted = gaussian(prediction[:, 0], jnp.zeros(1), confounds=np.ones((TIMES, 1)))
    assert fitted.fitted(value[:, 0]).shape == (TIMES,)


def test_a_basis_serves_as_its_confounds(prediction, value):
    X = np.stack([np.ones(TIMES), np.arange(TIMES)], axis=1)
    given = [gaussian(prediction, jnp.zeros(2), confounds=c).log_prob(value)
             for c in (X, confound_basis(X, TIMES))]  # fmt: skip
    assert given[0] == given[1]
    traced = jax.jit(lambda X: gaussian(prediction, jnp.zeros(2), confounds=X).log_prob(value))(X)
    assert float(traced) == pytest.approx(float(given[0]), abs=1e-9)


@pytest.mark.parametrize("kind", ["temporal 1", "temporal 2"])
def test_temporal_precision_may_be_decomposed_beforehand(prediction, value, some_confounds, kind):
    noise = components(kind, np.random.default_rng(8))
    expected = make(prediction, noise, some_confounds)
    prepared = temporal_precision(noise[0], some_confounds)
    made = jax.jit(lambda Q: gaussian(prediction, noise[1], Q).log_prob(value))
    traced = jax.jit(lambda Q, X: gaussian(prediction, noise[1], Q, X).log_prob(value))
    for found in (made(prepared), traced(noise[0], some_confounds)):
        assert float(found) == pytest.approx(float(expected.log_prob(value)), abs=1e-9)
    again = gaussian(prediction, noise[1], prepared)
    for name in ("fitted", "whitened_residual"):
        np.testing.assert_allclose(
            getattr(again, name)(value), getattr(expected, name)(value), atol=1e-9
        )


def test_temporal_components_of_many_columns_need_little_memory():
    # The matrix over all data would have 20 000 rows and columns, 3 GB.
    times, columns = 100, 200
    Q = 1.25 * np.eye(times) - 0.5 * np.eye(times, k=1) - 0.5 * np.eye(times, k=-1)
    value = np.random.default_rng(0).normal(size=(times, columns))
    observation = gaussian(jnp.zeros((times, columns)), jnp.array([1.0]), Q[None])
    density = multivariate_normal(np.zeros(times), np.linalg.inv(np.e * Q)).logpdf(value.T).sum()
    assert float(observation.log_prob(value)) == pytest.approx(density, abs=1e-8)
    assert observation.sample(jax.random.key(0)).shape == (times, columns)


def test_evaluation_of_one_temporal_component_decomposes_nothing(prediction, value, some_confounds):
    noise = components("temporal 1", np.random.default_rng(8))

    def density(prediction, log_precision):
        Q, X = noise[0], some_confounds
        return gaussian(prediction, log_precision, Q, X).log_prob(value)

    text = str(jax.make_jaxpr(jax.grad(density, (0, 1)))(prediction, noise[1]))
    assert "dot_general" in text
    for operation in ("cholesky", "eigh", "svd", "triangular_solve", "lu"):
        assert f" {operation}[" not in text


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_diverged_predictions_have_no_density(prediction, value, bad):
    broken = prediction.copy()
    broken[3, 1] = bad
    for Q in (None, np.ones((1, SIZE)), np.eye(TIMES)[None]):
        log_precision = jnp.zeros(1)
        assert float(gaussian(broken, log_precision, Q).log_prob(value)) == -np.inf


def test_gradients_are_those_of_finite_differences(prediction, value, noise, confounds):
    def density(log_precision):
        return make(prediction, (noise[0], log_precision, None), confounds).log_prob(value)

    evaluate = jax.jit(jax.value_and_grad(density))
    gradient = np.asarray(evaluate(noise[1])[1])
    for i, step in enumerate(1e-5 * np.eye(len(gradient))):
        values = [float(evaluate(noise[1] + sign * step)[0]) for sign in (1, -1)]
        assert gradient[i] == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prediction": jnp.zeros((2, 2, 2))}, "prediction must have shape"),
        ({"prediction": jnp.zeros(())}, "prediction must have shape"),
        ({"log_precision": jnp.zeros(3)}, "log_precision must have one entry, or one for each"),
        ({"components": np.ones((1, 5))}, r"components must have shape \(1, 14\)"),
        ({"components": np.ones((2, SIZE))}, "components must have shape"),
        ({"components": np.ones((1, SIZE, 3))}, "components must have shape"),
        ({"components": np.ones(SIZE)}, "components must have shape"),
        ({"components": np.ones((2, TIMES, TIMES))}, r"got \(2, 7, 7\)"),
        (
            {"components": np.ones((1, TIMES, TIMES))},
            "must be positive definite where there is one",
        ),
        ({"components": temporal_precision(np.eye(6)[None])}, r"got \(1, 6, 6\)"),
        (
            {"components": temporal_precision(np.eye(7)[None]), "confounds": np.ones((7, 1))},
            "confounds must be given to temporal_precision",
        ),
        ({"confound_precision": 0.0}, "confound_precision must be positive, got 0.0"),
        ({"confounds": np.ones((6, 1))}, "confounds must have shape .* the 7 times"),
        ({"confounds": np.ones(TIMES)}, r"confounds must have shape \(times, k\)"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    given = {"prediction": jnp.zeros((TIMES, COLUMNS)), "log_precision": jnp.zeros(())}
    with pytest.raises(ValueError, match=message):
        gaussian(**(given | arguments))
