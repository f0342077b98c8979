"""SPM's demonstration of reduction on a model of evoked responses, on its own data.

Two sources, each seen by one channel, two conditions, two effects on connections. The model is a
program made from the package's parts; eleven priors of one of the effects.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdcm
from bayesdcm.compare import reduce, reduce_gaussian
from bayesdcm.infer.conditional import conditional_laplace
from bayesdcm.infer.density import layout
from bayesdcm.models.evoked import EvokedDCM
from bayesdcm.observe import gaussian

pytestmark = pytest.mark.slow

OTHER = 1 / 8


@pytest.fixture(scope="module")
def spm():
    with np.load(Path(__file__).parents[1] / "data" / "spm_reduction.npz") as arrays:
        found = dict(arrays)
    return {k.split("/")[1]: v for k, v in found.items() if k.startswith("demonstration/")}


@pytest.fixture(scope="module")
def program(spm):
    """A program that takes the prior variance of the first effect."""
    model = EvokedDCM(
        forward=[[0, 0], [1, 0]],
        backward=[[0, 1], [0, 0]],
        modulation=[[1, 0], [1, 0]],
        observation="lfp",
        onset=float(spm["onset"]) / 1000,
        duration=float(spm["duration"]) / 1000,
        one_sided=True,
    )
    times = np.arange(spm["signal"].shape[1]) * float(spm["dt"])
    prepared = model.prepare(bayesdcm.data.EvokedData(spm["signal"], times))
    constants = {prior.name: jnp.asarray(prior.mean) for prior in model.source_model.priors()}
    signal = jnp.moveaxis(jnp.asarray(spm["signal"]), 0, 1).reshape(len(times), -1)

    def program(variance):
        sd = jnp.sqrt(jnp.array([variance, OTHER]))
        effects = numpyro.sample("effects", dist.Normal(0, sd).to_event(1))
        gain = dist.Normal(jnp.ones(2), 8.0).to_event(1)
        gain = numpyro.sample("gain", gain, infer={"role": "observer"})
        weight = dist.Normal(jnp.zeros(2), np.sqrt(1 / 32)).to_event(1)
        weight = numpyro.sample("weight", weight, infer={"role": "observer"})
        h = dist.Normal(spm["log_precision_mean"], np.sqrt(spm["log_precision_variance"]))
        h = numpyro.sample("log_precision", h, infer={"role": "precision"})
        B = jnp.zeros((1, 2, 2)).at[0, :, 0].set(effects)
        states = model.states(constants | {"B": B}, prepared)
        seen = states[..., 8] + states[..., [0, 6]] @ weight
        prediction = jnp.moveaxis(seen * gain, 0, 1).reshape(signal.shape)
        noise = gaussian(prediction, h, components=prepared.noise.components)
        numpyro.sample("signal", noise, obs=signal)

    return program


@pytest.fixture(scope="module")
def inversions(program, spm):
    """All inversions of SPM's, by one compiled function."""
    sites = layout(partial(program, 1.0))

    @jax.jit
    def invert(variance):
        start = jnp.array([0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 6.0])
        return conditional_laplace(partial(program, variance), sites, start, 64, "one_sided")

    return [jax.tree.map(np.asarray, invert(variance)) for variance in spm["alpha"]]


@pytest.fixture(scope="module")
def full(program, spm):
    return bayesdcm.fit(program, float(spm["alpha"][-1]), derivatives="one_sided")


def test_inversions_as_spm(inversions, spm):
    assert [int(r.n_iterations) for r in inversions] == spm["iterations"].tolist()
    energies = np.array([r.free_energy for r in inversions])
    np.testing.assert_allclose(energies, spm["free_energy"], rtol=0, atol=1e-6)
    means = np.array([r.mean for r in inversions])
    np.testing.assert_allclose(means[:, :2], spm["mean"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(means[:, 2:], spm["spatial_mean"][:, [0, 1, 2, 8]], atol=1e-6)
    covariances = np.array([r.covariance[:2, :2] for r in inversions])
    np.testing.assert_allclose(covariances, spm["covariance"], rtol=0, atol=1e-7)
    precisions = np.array([r.log_precision[0] for r in inversions])
    np.testing.assert_allclose(precisions, spm["log_precision"], rtol=0, atol=1e-7)
    for found, expected in zip(inversions, spm["trace"], strict=True):
        n = int(found.n_iterations)
        np.testing.assert_allclose(found.trace["free_energy"][:n], expected[:n], rtol=0, atol=1e-5)


def test_one_reduction_for_all_priors_as_spm(full, spm):
    """The pure function on the two effects, as SPM's demonstration has it."""
    mean, covariance = full.mean["effects"], full.covariance.to_numpy()[:2, :2]
    prior = np.diag([spm["alpha"][-1], OTHER])
    reduced = jax.vmap(
        lambda a: reduce_gaussian(
            mean, covariance, np.zeros(2), prior, np.zeros(2), jnp.diag(jnp.array([a, OTHER]))
        )
    )(spm["alpha"])
    np.testing.assert_allclose(reduced.change, spm["reduced_change"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(reduced.mean, spm["reduced_mean"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(reduced.covariance, spm["reduced_covariance"], rtol=0, atol=1e-7)


def test_reduced_fits_as_spm(full, spm):
    """The same, with all parameters, by label."""
    for i, variance in enumerate(spm["alpha"]):
        found = reduce(full, priors={"effects[0]": (0.0, variance)})
        assert found.change == pytest.approx(spm["reduced_change"][i], abs=1e-6)
        np.testing.assert_allclose(found.mean["effects"], spm["reduced_mean"][i], atol=1e-7)
        block = found.covariance.to_numpy()[:2, :2]
        np.testing.assert_allclose(block, spm["reduced_covariance"][i], atol=1e-7)


def test_the_poor_optimum_of_the_narrowest_prior(program, spm):
    """SPM's first inversion stops early on a plateau; from other starts there is more to find."""
    starts = np.tile([0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 6.0], (5, 1))
    starts[:, 1] = np.linspace(-0.6, 0.6, 5)
    variance = float(spm["alpha"][0])
    again = bayesdcm.fit(program, variance, derivatives="one_sided", starts=starts)
    assert again.log_evidence > spm["free_energy"][0] + 0.5
    assert again.mean["effects"][1] > 0.25 > spm["mean"][0, 1]
