"""Spectral DCM: its cost, NUTS, coverage of its intervals, and recovery of directions.

    python ci/benchmarks/spectral.py cost             warm variational Laplace, data of SPM's
    python ci/benchmarks/spectral.py nuts             NUTS on the 4 regions, both likelihoods
    python ci/benchmarks/spectral.py channels         NUTS on cross-spectra of channels in 2 sources
    python ci/benchmarks/spectral.py coverage [N] [METHOD ...]   N recordings of 300 and 1,200 scans
    python ci/benchmarks/spectral.py direction [N] [METHOD ...]   N networks of 4 regions
    python ci/benchmarks/spectral.py series [N]       N posteriors against those of time series
    python ci/benchmarks/spectral.py channel-coverage [N]   N cross-spectra of channels, Laplace

Recordings are time series that the model with a Wishart likelihood makes of draws of its prior,
three regions, scans every 2 s. ``direction`` has two connections of 0.3 or -0.3 Hz in one direction
only, in 4 regions, 600 scans: an edge is right where the interval of the true direction, and of
no other, is on the right side of 0.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import bayesdcm  # isort: skip  (before JAX: it sets double precision)

import jax
import jax.numpy as jnp
import numpy as np
from measure import machine, median_cost, table, timed
from scipy.optimize import minimize

from bayesdcm import BoldData, BoldDesign, CrossSpectralDCM, SpectralData, SpectralDCM
from bayesdcm.models.spectral import _series_log_density

DATA = Path(__file__).parents[2] / "tests" / "data"
# CPU s of SPM under Octave.
SPM = {3: 11.7, 4: 26.0}
ESTIMATES = {"wishart": "multitaper", "spm": "autoregressive"}
NUTS = {"warmup": 500, "draws": 500, "chains": 2}


def reference(n: int, likelihood: str) -> tuple[SpectralDCM, SpectralData]:
    """Model and data of SPM's inversion of n regions."""
    with np.load(DATA / "spm_spectra.npz") as spectra, np.load(DATA / "spm_spectral.npz") as spm:
        bold = BoldData(spectra[f"signal_{n}"], 2.0, unit="percent")
        structure = spm[f"{n}/structure"]
    model = SpectralDCM(structure, likelihood)
    return model, SpectralData.from_bold(bold, ESTIMATES[likelihood])


def cost() -> None:
    """Warm variational Laplace against SPM."""
    rows = []
    for n, spm in SPM.items():
        model, data = reference(n, "spm")
        fit, first = timed(
            lambda m=model, d=data: bayesdcm.fit(m, d, "laplace", draws=10, progress=False)
        )
        warm = median_cost(
            lambda m=model, d=data: bayesdcm.fit(m, d, "laplace", draws=10, progress=False), 5
        )
        rows.append(
            {
                "regions": n,
                "free energy": round(fit.log_evidence, 3),
                "first, CPU s": round(first.cpu, 1),
                "warm, CPU s": round(warm.cpu, 3),
                "of SPM's": f"1/{spm / warm.cpu:.0f}",
            }
        )
    print(table(rows))


def nuts() -> None:
    """NUTS with its defaults."""
    print(table([sampled(likelihood, *reference(4, likelihood)) for likelihood in ESTIMATES]))


def sampled(name: str, model: Any, data: SpectralData) -> dict[str, Any]:
    """A row of NUTS with its defaults, compiled before."""
    bayesdcm.fit(model, data, "nuts", warmup=20, draws=20, max_tree_depth=3, progress=False)
    fit, used = timed(lambda: bayesdcm.fit(model, data, "nuts", progress=False))
    summary = fit.summary()
    return {
        "what": name,
        "CPU s": round(used.cpu, 1),
        "steps a draw": round(float(fit.trace["n_steps"].mean())),
        "largest R-hat": round(float(summary["r_hat"].max()), 4),
        "least bulk ESS": round(float(summary["ess_bulk"].min())),
        "diagnosis": str(fit.diagnose()),
    }


def channels() -> None:
    """NUTS on one channel in each of two sources, 1 to 48 Hz, 40 samples behind each estimate."""
    frequencies, rows = np.arange(1.0, 49.0), []
    spectra = np.tile(np.eye(2), (len(frequencies), 1, 1))
    design = SpectralData(spectra, frequencies, degrees_of_freedom=40.0)
    for neural in ("erp", "cmc"):
        edges = {"forward": [[0, 0], [1, 0]], "backward": [[0, 1], [0, 0]]}
        model, rng = CrossSpectralDCM(**edges, neural=neural), np.random.default_rng(1)
        true = {
            p.name: p.mean + np.sqrt(p.variance) / 2 * rng.normal(size=np.shape(p.mean))
            for p in model.priors
        }
        rows.append(sampled(neural, model, model.simulate(true, design, seed=1)))
        print(rows[-1], flush=True)
    print(table(rows))


def coverage(number: int, methods: list[str]) -> None:
    """Share of true connections in 90 % intervals."""
    generator = SpectralDCM(np.ones((3, 3)))
    rows = []
    for scans in (300, 1200):
        design = BoldDesign(scans, 2.0, None, None, ["R1", "R2", "R3"])
        for likelihood, estimate in ESTIMATES.items():
            model = SpectralDCM(np.ones((3, 3)), likelihood)
            for method in methods:
                options = NUTS if method == "nuts" else {}
                rng, inside, seed = np.random.default_rng(7), [], 0
                while len(inside) < number:
                    true = {
                        p.name: p.mean + np.sqrt(p.variance) * rng.normal(size=p.mean.shape)
                        for p in generator.priors
                    }
                    try:
                        bold = generator.simulate(true, design, seed=seed)
                    except ValueError:  # Unstable.
                        continue
                    seed += 1
                    data = SpectralData.from_bold(bold, estimate)
                    fit = bayesdcm.fit(model, data, method, progress=False, **options)
                    draws = fit.idata.posterior["A"].to_numpy().reshape(-1, 3, 3)
                    low, high = np.quantile(draws, (0.05, 0.95), axis=0)
                    inside.append((low <= true["A"]) & (true["A"] <= high))
                rows.append(
                    {
                        "scans": scans,
                        "likelihood": likelihood,
                        "method": method,
                        "recordings": number,
                        "inside 90 %": f"{100 * np.mean(inside):.1f}",
                    }
                )
                print(rows[-1], flush=True)
    print(table(rows))


def direction(number: int, asked: list[str]) -> None:
    """Share of connections that are found in the right direction with the right sign."""
    methods = [(likelihood, method) for likelihood in ESTIMATES for method in asked]
    generator = SpectralDCM(np.ones((4, 4)))
    right, wrong = dict.fromkeys(methods, 0), dict.fromkeys(methods, 0)
    design = BoldDesign(600, 2.0, None, None, ["R1", "R2", "R3", "R4"])
    for seed in range(number):
        rng = np.random.default_rng([seed, 1])
        true = {prior.name: np.array(prior.mean) for prior in generator.priors}
        order = rng.permutation(4)
        for to, source in (order[:2], order[2:]):
            true["A"][to, source] = rng.choice([-0.3, 0.3])
        bold = generator.simulate(true, design, seed=seed)
        edges = np.abs(true["A"]) > 0.1
        for likelihood, method in methods:
            data = SpectralData.from_bold(bold, ESTIMATES[likelihood])
            options = NUTS if method == "nuts" else {}
            model = SpectralDCM(np.ones((4, 4)), likelihood)
            fit = bayesdcm.fit(model, data, method, progress=False, **options)
            mean, sd = fit.mean["A"], fit.sd["A"]
            found = np.sign(mean) * (np.abs(mean) > 1.645 * sd)
            good = edges & (found == np.sign(true["A"])) & (found.T == 0)
            right[likelihood, method] += int(good.sum())
            back = ~edges & ~np.eye(4, dtype=bool)
            wrong[likelihood, method] += int((found[back] != 0).sum())
    rows = [
        {
            "likelihood": likelihood,
            "method": method,
            "right direction and sign": f"{100 * right[likelihood, method] / (2 * number):.0f} %",
            "found where there is none": f"{100 * wrong[likelihood, method] / (10 * number):.0f} %",
        }
        for likelihood, method in methods
    ]
    print(table(rows))


def series(number: int) -> None:
    """Gaussian posteriors of A by the Wishart likelihood, and by the exact one of the series.

    Both of two regions, with the same prior, about the modes of their densities.
    """
    model, rows = SpectralDCM(np.ones((2, 2))), []
    priors = [(p.name, np.shape(p.mean)) for p in model.priors]
    mean, sd = (
        np.concatenate([np.ravel(value(p)) for p in model.priors])
        for value in (lambda p: p.mean, lambda p: np.sqrt(p.variance))
    )
    ends = np.cumsum([int(np.prod(shape)) for _, shape in priors])

    @jax.jit
    def potential(z: Any, signal: Any) -> Any:
        parts = jnp.split(mean + sd * z, ends[:-1])
        values = {n: v.reshape(shape) for (n, shape), v in zip(priors, parts, strict=True)}
        length = 4 * len(signal)
        spectra = model.cross_spectra(values, np.arange(1, length // 2 + 1) / (2.0 * length))
        constant = jnp.full((len(signal), 1), len(signal) ** -0.5)
        # As `SpectralDCM.series_log_likelihood`, compiled once for all recordings.
        return z @ z / 2 - _series_log_density(spectra, signal, constant, length, 2.0)

    slope, curvature = jax.jit(jax.value_and_grad(potential)), jax.jit(jax.hessian(potential))
    for scans in (200, 600):
        design = BoldDesign(scans, 2.0, None, None, ["R1", "R2"])
        moved, ratios = [], []
        for seed in range(number):
            true = {p.name: np.array(p.mean) for p in model.priors}
            true["A"] += np.array([[0.0, 0.0], [0.3, 0.0]])
            bold = model.simulate(true, design, seed=seed)
            data = SpectralData.from_bold(bold)
            fit = bayesdcm.fit(model, data, progress=False)
            signal = np.asarray(bold.signal) * np.sqrt(model.observer.scale(data))
            found = minimize(slope, np.zeros(len(mean)), args=(signal,), jac=True, method="BFGS")
            exact = mean + sd * found.x
            spread = sd * np.sqrt(np.diag(np.linalg.inv(curvature(found.x, signal))))
            moved.append((fit.mean["A"].ravel() - exact[:4]) / spread[:4])
            ratios.append(fit.sd["A"].ravel() / spread[:4])
        rows.append(
            {
                "scans": scans,
                "recordings": number,
                "root mean square shift, sd": f"{np.sqrt(np.mean(np.square(moved))):.2f}",
                "mean shift, sd": f"{np.mean(moved):.2f}",
                "sd over exact": f"{np.mean(ratios):.2f}",
            }
        )
        print(rows[-1], flush=True)
    print(table(rows))


def channel_coverage(number: int) -> None:
    """Share of true neural parameters in 90 % intervals, two sources of ERP, one channel in each.

    Spectra are scaled before they are modelled, so that lead fields and noise are not those drawn.
    """
    design = SpectralData(
        np.tile(np.eye(2), (24, 1, 1)), np.arange(2.0, 49.0, 2.0), degrees_of_freedom=60.0
    )
    edges = {"forward": [[0, 0], [1, 0]], "backward": [[0, 1], [0, 0]]}
    model, inside = CrossSpectralDCM(**edges, neural="erp"), {}
    rng, seed = np.random.default_rng(7), 0
    while seed < number:
        true = {
            p.name: p.mean + np.sqrt(p.variance) * rng.normal(size=np.shape(p.mean))
            for p in model.priors
        }
        try:
            data = model.simulate(true, design, seed=seed)
        except ValueError:  # Unstable.
            continue
        seed += 1
        fit = bayesdcm.fit(model, data, progress=False)
        for prior in model.parts.neural.priors():
            if prior.free.any():
                miss = np.abs(fit.mean[prior.name] - true[prior.name])
                found = (miss < 1.645 * fit.sd[prior.name])[prior.free]
                inside.setdefault(prior.name, []).append(found)
                # The first climb begins where both sources are seen with the same sign.
                alike = "signs alike" if true["gain"].prod() > 0 else "signs differ"
                inside.setdefault(alike, []).extend(found)
    rows = [
        {"parameter": name, "number": np.size(found), "inside 90 %": f"{100 * np.mean(found):.1f}"}
        for name, found in inside.items()
    ]
    print(table(rows))


if __name__ == "__main__":
    print(machine())
    what, *rest = sys.argv[1:] or ["cost"]
    numbers = [int(word) for word in rest if word.isdigit()]
    names = [word for word in rest if not word.isdigit()]
    match what:
        case "coverage":
            coverage(numbers[0] if numbers else 100, names or ["laplace"])
        case "direction":
            direction(numbers[0] if numbers else 50, names or ["laplace"])
        case "nuts":
            nuts()
        case "series":
            series(numbers[0] if numbers else 10)
        case "channel-coverage":
            channel_coverage(numbers[0] if numbers else 40)
        case "channels":
            channels()
        case _:
            cost()
