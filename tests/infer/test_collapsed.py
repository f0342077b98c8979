"""Observer sites that are normal given all others: found, integrated out, drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.integrate import quad

import bayesdcm
from bayesdcm.infer.collapsed import Split, collapsible, marginal
from bayesdcm.infer.density import layout, log_joint
from bayesdcm.infer.dependence import depends
from bayesdcm.observe import gaussian

TIMES = jnp.linspace(0, 1, 20)
DATA = 2 * jnp.exp(-1.5 * TIMES) + 0.1 * jnp.sin(40 * TIMES)


def observer(name, distribution):
    return numpyro.sample(name, distribution, infer={"role": "observer"})


def amplitude(decay, gain):
    """Decay with a gain, and with an amplitude that does what the gain does."""
    scale = numpyro.sample("scale", dist.Normal(0, 0.5))
    numpyro.sample("y", gaussian(gain * jnp.exp(scale - decay * TIMES), 3.0), obs=DATA)


def ridge():
    decay = numpyro.sample("decay", dist.Normal(1, 1))
    amplitude(decay, observer("gain", dist.Normal(1, 8)))


def hierarchical():
    """The prior of the gain, and that of another parameter, depend on each other's values."""
    decay = numpyro.sample("decay", dist.Normal(1, 1))
    gain = observer("gain", dist.Normal(decay, jnp.exp(decay / 2)))
    numpyro.sample("offset", dist.Normal(gain, 1))
    amplitude(decay, gain)


def at(program, seed=0):
    """Everything about a program that has a gain, at a random point."""
    sites = layout(program)
    parts = Split(sites, collapsible(program, sites, jnp.zeros(sites.size)))
    others = 0.3 * jax.random.normal(jax.random.key(seed), (len(parts.others),))
    return sites, parts, others


@pytest.mark.parametrize("program", [ridge, hierarchical])
def test_the_marginal_density_is_the_integral(program):
    sites, parts, others = at(program)
    assert parts.names == ("gain",)
    expanded = jax.jit(lambda at: marginal(program, parts, at, others))
    found = expanded(jnp.zeros(1))

    @jax.jit
    def joint(gain):
        return log_joint(program, sites, parts.join(gain[None], others))

    top = float(joint(found.mean[0]))

    def density(gain):
        return np.exp(float(joint(jnp.asarray(gain))) - top)

    mean, sd = float(found.mean[0]), 1 / float(found.factor[0, 0])
    limits = (mean - 9 * sd, mean + 9 * sd)
    volume = quad(density, *limits)[0]
    assert float(found.log_density) == pytest.approx(top + np.log(volume), abs=1e-7)
    first = quad(lambda g: g * density(g), *limits)[0] / volume
    second = quad(lambda g: (g - mean) ** 2 * density(g), *limits)[0] / volume
    assert first == pytest.approx(mean, abs=1e-7 * sd)
    assert np.sqrt(second) == pytest.approx(sd, rel=1e-6)
    # Where it was expanded makes no difference.
    again = expanded(jnp.array([5.0]))
    np.testing.assert_allclose(again.log_density, found.log_density, rtol=1e-11)
    np.testing.assert_allclose(again.mean, found.mean, rtol=1e-11)


def several():
    decay = numpyro.sample("decay", dist.Normal(1, 1))
    prior = dist.MultivariateNormal(jnp.zeros(3), jnp.eye(3) + 0.5)
    moment = observer("moment", prior)
    basis = jnp.stack([jnp.ones(20), TIMES, jnp.exp(-decay * TIMES)], axis=1)
    columns = jnp.stack([basis @ moment, jnp.sin(basis) @ moment], axis=1)
    noise = gaussian(columns, jnp.array([1.0, 2.0]), confounds=jnp.ones((20, 1)))
    numpyro.sample("y", noise, obs=jnp.stack([DATA, DATA**2], axis=1))


def test_draws_have_the_conditional_distribution():
    sites, parts, others = at(several)
    found = jax.jit(lambda o: marginal(several, parts, jnp.zeros(3), o))(others)
    noise = jax.random.normal(jax.random.key(1), (4000, 3))
    draws, densities = jax.vmap(found.draw)(noise)
    expected = jax.jit(jax.vmap(lambda g: log_joint(several, sites, parts.join(g, others))))(draws)
    np.testing.assert_allclose(densities, expected, rtol=0, atol=1e-9)
    covariance = np.linalg.inv(found.factor @ found.factor.T)
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(draws.mean(0), found.mean, rtol=0, atol=5 * sd.max() / np.sqrt(4000))
    np.testing.assert_allclose(np.cov(draws.T), covariance, rtol=0.1, atol=0.1 * sd.min() ** 2)


def bilinear():
    gain = observer("gain", dist.Normal(1, 8))
    weight = observer("weight", dist.Normal(1, 1))
    numpyro.sample("y", gaussian(gain * weight * TIMES, 3.0), obs=DATA)


def positive():
    gain = observer("gain", dist.LogNormal(0, 1))
    numpyro.sample("y", gaussian(gain * TIMES, 3.0), obs=DATA)


def heavy_tailed():
    gain = observer("gain", dist.StudentT(5, 0, 1))
    numpyro.sample("y", gaussian(gain * TIMES, 3.0), obs=DATA)


def saturating():
    gain = observer("gain", dist.Normal(0, 1))
    numpyro.sample("y", gaussian(jnp.where(gain > 0, gain, 2 * gain) * TIMES, 3.0), obs=DATA)


def noisy():
    gain = observer("gain", dist.Normal(0, 1))
    numpyro.sample("y", gaussian(gain * TIMES, 3.0 + gain), obs=DATA)


def foreign():
    gain = observer("gain", dist.Normal(0, 1))
    numpyro.sample("y", dist.Poisson(jnp.exp(gain)), obs=3)


def unmarked():
    gain = numpyro.sample("gain", dist.Normal(0, 1))
    numpyro.sample("y", gaussian(gain * TIMES, 3.0), obs=DATA)


@pytest.mark.parametrize(
    ("program", "names"),
    [
        (several, ("moment",)),
        (bilinear, ("gain",)),
        (positive, ()),
        (heavy_tailed, ()),
        (saturating, ()),
        (noisy, ()),
        (foreign, ()),
        (unmarked, ()),
    ],
)
def test_sites_are_found_where_the_density_is_quadratic(program, names):
    sites = layout(program)
    assert collapsible(program, sites, jnp.zeros(sites.size)) == names


def test_dependence_of_either_argument():
    def function(x, y):
        return jnp.where(jnp.isfinite(x) & jnp.isfinite(y), 2 * x, x)

    assert depends(function, (1.0, 2.0), 0)
    assert not depends(function, (1.0, 2.0), 1)
    assert depends(lambda x: jnp.where(x == 0, 1.0, 2.0), (1.0,))
    assert not depends(lambda x: jnp.where(x == x, 1.0, 2.0), (1.0,))


@pytest.mark.exhaustive
def test_nuts_with_a_collapsed_gain_and_without():
    """The same posterior with and without; only collapsed is the ridge no trouble."""

    def plain():
        amplitude(
            numpyro.sample("decay", dist.Normal(1, 1)), numpyro.sample("gain", dist.Normal(1, 8))
        )

    options = {"seed": 3, "progress": False, "draws": 500, "warmup": 200}
    fits = [
        bayesdcm.fit(lambda _, program=program: program(), None, "nuts", **options)
        for program in (ridge, plain)
    ]
    tables = [fit.summary() for fit in fits]
    collapsed, whole = (table.loc[["decay", "scale", "gain"]] for table in tables)
    assert fits[0].status["divergences"] == 0
    assert collapsed["r_hat"].max() < 1.01
    assert collapsed["ess_bulk"].min() > 2 * whole["ess_bulk"].min()
    error = np.hypot(*(table["sd"] / np.sqrt(table["ess_bulk"]) for table in (collapsed, whole)))
    assert (np.abs(collapsed["mean"] - whole["mean"]) / error).max() < 4
    # The log density of a draw is that of all its coordinates.
    sites = layout(ridge)
    position = fits[0].idata.posterior.isel(chain=0, draw=0)
    point = jnp.array([float(position[site.name]) for site in sites.sites])
    found = float(fits[0].idata.sample_stats["lp"][0, 0])
    assert found == pytest.approx(float(log_joint(ridge, sites, point)), abs=1e-9)
