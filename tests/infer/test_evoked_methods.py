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


OTHERS = [
    pytest.param(name, marks=pytest.mark.exhaustive) for name in ("cmc", "lfp", "nmda", "laminar")
]


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


@pytest.mark.slow
def test_a_column_as_a_source_comes_back_to_rest_and_is_recovered():
    model = bayesdcm.EvokedDCM(
        forward=[[0, 0], [1, 0]],
        backward=[[0, 1], [0, 0]],
        modulation=[[0, 0], [1, 0]],
        neural="laminar",
        observation="lfp",
    )
    rng, times = np.random.default_rng(1), 0.004 * np.arange(100)
    blank = rng.normal(size=(2, len(times), 2))
    design = bayesdcm.EvokedData(blank, times, design=[[0.0], [1.0]])
    scores = []
    for seed in range(3):
        true = {
            prior.name: prior.mean
            + 0.7 * np.sqrt(prior.variance) * rng.normal(size=prior.mean.shape)
            for prior in model.priors
        }
        response = np.abs(np.asarray(model.predict(true, design)))
        assert (response[:, -5:].max(1) < 0.05 * response.max(1)).all()
        fit = bayesdcm.fit(model, model.simulate(true, design, seed, snr=5.0), progress=False)
        for prior in model.priors:
            if prior.name in ("A", "B", "C", "synaptic_gain", "delay"):
                free, error = np.asarray(prior.free), fit.mean[prior.name] - true[prior.name]
                scores += list(error[free] / fit.sd[prior.name][free])
    scores = np.array(scores)
    assert np.abs(scores).max() < 4
    assert np.sqrt((scores**2).mean()) < 1.4
