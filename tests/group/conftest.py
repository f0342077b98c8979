"""A linear model, whose fits have closed forms and share one compiled program."""

from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdcm
from bayesdcm.observe import gaussian

TIMES = np.linspace(-1, 1, 20)
REGRESSORS = np.stack([TIMES, TIMES**2, np.sin(4 * TIMES), np.ones(20)], axis=1)
LOG_PRECISION = 2.0


@dataclass(frozen=True)
class Line:
    """Three weights, as a site A of labelled entries, and a level."""

    observed_site = "y"

    def program(self, data):
        return partial(self.sample, self.prepare(data))

    def prepare(self, data):
        return jnp.asarray(data, float)

    def sample(self, y):
        level = numpyro.sample("level", dist.Normal(0.0, 2.0))
        A = numpyro.sample("A", dist.Normal(np.zeros(3), np.sqrt(0.5)).to_event(1))
        prediction = REGRESSORS[:, :3] @ A + level
        numpyro.sample("y", gaussian(prediction, LOG_PRECISION), obs=y)

    def labels(self, data):
        return {"level": ["level"], "A": ["A[slope]", "A[curve]", "A[wave]"]}

    def dims(self):
        return {}

    coords = constants = lambda self, data: {}

    def restore(self, values, data):
        return values

    arrange = restore


@pytest.fixture(scope="session")
def linear_group():
    """Six subjects: `fits`, `design`, and what is exact of them."""
    rng = np.random.default_rng(5)
    age = np.array([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0])
    weights = np.array([0.6, -0.3, 0.0]) + np.outer(age, [0.0, 0.3, 0.0])
    weights = np.c_[weights + 0.1 * rng.normal(size=weights.shape), np.full(6, 0.5)]
    noise = np.exp(-LOG_PRECISION / 2) * rng.normal(size=(6, 20))
    data = weights @ REGRESSORS.T + noise
    fits = [bayesdcm.fit(Line(), y, progress=False) for y in data]
    return SimpleNamespace(
        model=Line(),
        data=data,
        fits=fits,
        age=age,
        design={"mean": 1, "age": age},
        regressors=REGRESSORS,
        precision=np.exp(LOG_PRECISION),
    )
