"""Methods that find the best point and no more: against closed forms, and what they say."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdcm
from bayesdcm import plot
from bayesdcm.compare import compare_posteriors, log_evidence
from bayesdcm.infer import Evolution, Gradient

METHODS = {
    "gradient": {"starts": 2, "steps": 200},
    "evolution": {"starts": 2, "generations": 60},
}


def fitted(program, method, data=None, **options):
    return bayesdcm.fit(program, data, method, progress=False, **(METHODS[method] | options))


def kinds(fit):
    return {problem.kind for problem in fit.diagnose().problems}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("extended", [False, True], ids=["plain", "two sites, confounds"])
def test_the_best_point_of_a_linear_model_is_its_posterior_mean(
    linear, linear_data, exact, method, extended
):
    data = linear_data(extended=extended)
    mean, covariance, _ = exact(data)
    fit = fitted(linear(), method, data)
    sd = np.sqrt(np.diag(covariance))
    assert (np.abs(fit.mean["b"] - mean) / sd).max() < 0.02
    assert fit.status["converged"]
    assert fit.status["starts_reached"] == 2
    assert fit.log_evidence is None
    table = fit.summary()
    assert list(table.columns) == ["estimate", "spread", "sensitivity"]
    np.testing.assert_allclose(table["estimate"], fit.mean["b"])
    assert (table["spread"] < 0.05 * sd).all()
    assert fit.predict()["y"].shape == data["y"].shape if extended else True


@pytest.mark.parametrize("derivative", ["forward", "reverse"])
def test_forward_and_reverse_derivatives_take_the_same_way(linear, linear_data, derivative):
    fit = fitted(linear(), "gradient", linear_data(), steps=5, derivative=derivative)
    usual = fitted(linear(), "gradient", linear_data(), steps=5)
    np.testing.assert_allclose(fit.trace["log_joint"], usual.trace["log_joint"], rtol=1e-12)
    assert fit.status["derivative"] == derivative


@pytest.fixture(scope="module")
def two_hills():
    """A higher hill at 2, a lower one at -2, a parameter that does nothing."""

    def program(data):
        x = numpyro.sample("x", dist.Normal(0, 1.0))
        numpyro.sample("idle", dist.Normal(0, 1.0))
        hills = jnp.logaddexp(-50 * (x - 2) ** 2, -20 - 50 * (x + 2) ** 2)
        numpyro.factor("objective", hills)

    return program


def test_what_was_and_was_not_found_is_said(two_hills):
    starts = np.array([[1.5, 0.0], [-1.5, 0.0], [1.0, 0.5]])
    fit = fitted(two_hills, "gradient", starts=starts)
    # 100 / 101 of the way from the mean of the prior to the hill.
    assert float(fit.mean["x"]) == pytest.approx(200 / 101, abs=1e-3)
    said = fit.diagnose()
    assert kinds(fit) == {"starts stuck", "objective does not depend on parameters"}
    assert "2 of 3 starts reached the best; 1 stuck 20.0 to 20.0 nats below it" in str(said)
    assert "hardly depends on idle" in str(said)
    np.testing.assert_array_equal(fit.posterior.optima.reached, [True, False, True])
    alone = fitted(two_hills, "evolution", starts=starts[:1], width=0.1)
    assert kinds(alone) == {"one start only", "objective does not depend on parameters"}


def test_values_that_data_do_not_tell_apart_are_named():
    def program(data):
        x = numpyro.sample("x", dist.Normal(0, 1.0))
        numpyro.factor("objective", -100 * (x**2 - 1) ** 2)

    fit = fitted(program, "gradient", starts=np.array([[0.8], [-0.8]]))
    assert "starts disagree" in kinds(fit)
    assert float(fit.summary()["spread"].iloc[0]) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_where_nothing_is_finite_steps_are_taken_back(method):
    def program(data):
        x = numpyro.sample("x", dist.Normal(0, 1.0))
        # The best is at the edge.
        numpyro.factor("objective", jnp.where(x < 1, 20 * x, jnp.nan))

    fit = fitted(program, method, starts=np.array([[0.0], [0.1]]))
    assert 0.9 < float(fit.mean["x"]) < 1
    assert fit.diagnose().facts["recoveries"] == fit.status.get("recoveries", 0)
    nowhere = np.array([[2.0], [3.0]])
    with pytest.raises(ValueError, match="not finite at any starting point"):
        fitted(
            program, method, starts=nowhere, **({"width": 1e-3} if method == "evolution" else {})
        )


def test_an_unfinished_search_is_not_converged(two_hills):
    fit = fitted(two_hills, "gradient", starts=np.array([[0.0, 0.0]]), steps=5)
    assert "not converged" in kinds(fit)
    assert "still rising after 5 steps" in str(fit.diagnose())


def test_slopes_of_chaos_are_named():
    def program(data):
        x = numpyro.sample("x", dist.Normal(0, 1.0))
        numpyro.factor("objective", -jnp.abs(x - 1) + jnp.where(jnp.abs(x) < 0.05, 1e6 * x, 0.0))

    fit = fitted(program, "gradient", starts=np.array([[0.0], [0.5]]), steps=20)
    assert "slopes explode" in kinds(fit)


@pytest.mark.parametrize(
    ("use", "what"),
    [
        (lambda fit: fit.covariance, "covariance"),
        (lambda fit: compare_posteriors({"a": fit, "b": fit}), "compare_posteriors, fits['a'],"),
        (log_evidence, "log_evidence"),
        (plot.plot_posterior, "plot_posterior"),
    ],
)
def test_what_needs_a_posterior_says_so(two_hills, use, what):
    fit = fitted(two_hills, "gradient", steps=3)
    with pytest.raises(ValueError, match="finds the best point and no more") as caught:
        use(fit)
    assert str(caught.value).startswith(f"{what} needs a posterior, but method 'gradient'")
    assert np.isnan(fit.sd["x"])


def test_the_search_is_drawn(two_hills):
    fit = fitted(two_hills, "gradient", starts=np.array([[1.5, 0.0], [-1.5, 0.0]]), steps=60)
    ax = plot.plot_free_energy(fit)
    assert ax.get_ylabel() == "log joint density (nats)"
    assert sorted(text.get_text() for text in ax.get_legend().get_texts()) == [
        "reached the best",
        "stuck",
    ]


def test_options_are_those_of_other_methods():
    assert Gradient(starts=8).options() == {"starts": 8}
    assert Evolution(population=4).options() == {"population": 4}
    with pytest.raises(ValueError, match="derivative must be one of 'auto', 'forward', 'reverse'"):
        Gradient(derivative="backward")
