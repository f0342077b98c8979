"""Every method of inference takes the program of every neural model of sources."""

import numpy as np
import pytest

import bayesdcm

# A compilation each, of ten to thirty seconds.
pytestmark = pytest.mark.slow

# Enough to move, not to converge. SVI and NUTS start from variational Laplace, compiled once.
METHODS = {
    "laplace": {},
    "svi": {"steps": 20, "draws": 20},
    "nuts": {"chains": 1, "warmup": 10, "draws": 10, "max_tree_depth": 3},
}
TIMES = 0.008 * np.arange(16)


OTHERS = [pytest.param(name, marks=pytest.mark.exhaustive) for name in ("cmc", "lfp", "nmda")]


@pytest.fixture(scope="module", params=["erp", *OTHERS])
def simulated(request):
    """A model of two sources that are both seen, and what it makes of a draw from its prior."""
    model = bayesdcm.EvokedDCM(
        forward=[[0, 0], [1, 0]],
        backward=[[0, 1], [0, 0]],
        modulation=[[1, 0], [1, 0]],
        neural=request.param,
        observation="lfp",
    )
    rng = np.random.default_rng(5)
    parameters = {
        prior.name: prior.mean + 0.5 * np.sqrt(prior.variance) * rng.normal(size=prior.mean.shape)
        for prior in model.priors
    }
    design = bayesdcm.EvokedData(rng.normal(size=(2, len(TIMES), 2)), TIMES)
    return model, model.simulate(parameters, design, seed=1, snr=10.0)


@pytest.mark.parametrize(
    "method",
    ["laplace", *(pytest.param(each, marks=pytest.mark.exhaustive) for each in ("nuts", "svi"))],
)
def test_every_method_takes_every_neural_model(simulated, method):
    model, data = simulated
    fit = bayesdcm.fit(model, data, method, progress=False, **METHODS[method])
    assert {name.removesuffix("_free") for name in model.labels(data)} == set(fit.mean)
    for prior in model.priors:
        if prior.name in fit.mean:
            mean, sd = fit.mean[prior.name], fit.sd[prior.name]
            assert np.isfinite(mean).all() and mean.shape == np.shape(prior.mean), prior.name
            # What is fixed stays where it is, and what is free is not known for certain.
            np.testing.assert_array_equal(sd > 1e-9, np.broadcast_to(prior.free, sd.shape))
    assert (fit.log_evidence is None) == (method == "nuts")
    assert fit.log_evidence is None or np.isfinite(fit.log_evidence)
    # The model leaves the level of each channel to confounds.
    residual = np.asarray(data.signal) - np.asarray(model.predict(fit.mean, data))
    assert (residual.std(axis=1) ** 2).sum() < 0.1 * (data.signal.std(axis=1) ** 2).sum()
