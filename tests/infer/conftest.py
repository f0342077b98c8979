"""SPM's inversions, linear models with a closed-form posterior, and the folder of references."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from bayesdcm.infer.problem import make_problem
from bayesdcm.observe import gaussian


@pytest.fixture(scope="session")
def spm():
    with np.load(Path(__file__).parents[1] / "data" / "spm_inversions.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def references():
    """The folder that BAYESDCM_REFERENCE names, with recordings that are not ours to publish."""
    folder = os.environ.get("BAYESDCM_REFERENCE", "")
    if not folder:
        pytest.skip("BAYESDCM_REFERENCE is not set: see tests/data/README.md")
    if not Path(folder).is_dir():
        pytest.skip(f"BAYESDCM_REFERENCE: there is no folder {folder!r}")
    return Path(folder)


class Sharing:
    """The protocol of the package's own models, for a program that is given its data as arrays.

    Equal models share compiled code, so that fits of further data sets of the same shape cost next
    to nothing; a program that is no more than a function is compiled for each fit.
    """

    observed_site = None

    def program(self, data):
        return lambda: self.sample(self.prepare(data))

    def prepare(self, data):
        return jax.tree.map(jnp.asarray, data)

    def dims(self):
        return {}

    def coords(self, data):
        return {}

    def constants(self, data):
        return {}

    def restore(self, values, data):
        return values

    def arrange(self, values, data):
        return values


@dataclass(frozen=True)
class SharingProgram(Sharing):
    """A model that is no more than a program, a function of the data."""

    function: Callable

    def sample(self, data):
        self.function(data)

    def labels(self, data):
        return make_problem(self.function, data).labels


@pytest.fixture(scope="session")
def sharing():
    """The class of models of programs that share compiled code, to be called with a program."""
    return SharingProgram


@dataclass(frozen=True)
class Linear(Sharing):
    """A linear model ``y = X b + confounds + noise``, one or two observed sites.

    Data are a dict of ``X``, ``y``, ``prior_mean``, ``prior_log_sd``, ``log_precision`` and, where
    wanted, ``confounds``, ``X_second`` and ``y_second``. With `learned`, the log-precision is a
    site with prior N(log_precision, 1).
    """

    learned: bool = False

    observed_site = "y"

    def prepare(self, data):
        return {name: jnp.asarray(value, float) for name, value in data.items()}

    def sample(self, data):
        prior = dist.Normal(data["prior_mean"], jnp.exp(data["prior_log_sd"]))
        b = numpyro.sample("b", prior.to_event(1))
        h = data["log_precision"]
        if self.learned:
            h = numpyro.sample("h", dist.Normal(h, 1.0), infer={"role": "precision"})
        confounds = data.get("confounds")
        numpyro.sample("y", gaussian(data["X"] @ b, h, confounds=confounds), obs=data["y"])
        if "y_second" in data:
            numpyro.sample("second", gaussian(data["X_second"] @ b, h), obs=data["y_second"])

    def labels(self, data):
        return {"b": [f"b[{name}]" for name in self.coords(data)["effect"]], "h": ["h"]}

    def dims(self):
        return {"b": ("effect",), "y": ("time",)}

    def coords(self, data):
        return {"effect": np.array(["one", "two", "three"][: len(data["prior_mean"])])}

    def constants(self, data):
        return {"design": np.asarray(data["X"])}


@pytest.fixture(scope="session")
def linear():
    """The class of linear models, to be called with `learned`."""
    return Linear


@pytest.fixture(scope="session")
def linear_data():
    """A function that makes data for `linear`: correlated effects, unequal priors."""

    def make(seed=0, n=30, effects=2, extended=False, snr=1.0):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(n, effects))
        X[:, 1] += X[:, 0]
        b = np.array([0.7, -0.4, 0.5][:effects]) * snr
        data = {
            "X": X,
            "y": X @ b + rng.normal(size=n) / 2,
            "prior_mean": np.array([0.2, 0.0, -0.1][:effects]),
            "prior_log_sd": np.log([1.0, 0.5, 2.0][:effects]),
            "log_precision": np.log(4.0),
        }
        if extended:
            drift = np.stack([np.ones(n), np.linspace(-1, 1, n) ** 2], axis=1)
            data |= {"confounds": drift, "y": data["y"] + drift @ np.array([5.0, -3.0])}
            data["X_second"] = rng.normal(size=(12, effects))
            data["y_second"] = data["X_second"] @ b + rng.normal(size=12) / 2
        return data

    return make


@pytest.fixture(scope="session")
def exact():
    """A function that returns posterior mean, covariance and log evidence in closed form."""

    def posterior(data, log_precision=None):
        h = data["log_precision"] if log_precision is None else log_precision
        X, y, mean = data["X"], data["y"], data["prior_mean"]
        effects, prior = len(mean), np.exp(-2 * data["prior_log_sd"])
        if "confounds" in data:
            # Confounds are effects with SPM's prior, N(0, 1e8).
            X = np.concatenate([X, data["confounds"]], axis=1)
            prior = np.r_[prior, [1e-8] * data["confounds"].shape[1]]
            mean = np.r_[mean, np.zeros(data["confounds"].shape[1])]
        if "y_second" in data:
            other = np.zeros((len(data["y_second"]), X.shape[1]))
            other[:, :effects] = data["X_second"]
            X, y = np.concatenate([X, other]), np.concatenate([y, data["y_second"]])
        weight, residual = np.exp(h), y - X @ mean
        covariance = np.linalg.inv(weight * X.T @ X + np.diag(prior))
        slope = weight * X.T @ residual
        evidence = len(y) * (h - np.log(2 * np.pi)) + np.log(prior).sum()
        evidence += np.linalg.slogdet(covariance)[1]
        evidence += slope @ covariance @ slope - weight * residual @ residual
        moved = mean + covariance @ slope
        return moved[:effects], covariance[:effects, :effects], evidence / 2

    return posterior
