"""Amortised posteriors of nonlinear networks with delays: cost, and coverage of simulated brains.

The example connectome of 8 regions. ``wilson_cowan``: a Wilson-Cowan node with Ornstein-Uhlenbeck
noise in each, 10 s of activity at 0.25 ms; coupling strength, conduction speed and the standard
deviation of the noise are drawn from their priors, log scalings of 1.5, 10 m/s and 0.5 with a
standard deviation of 0.25. ``jansen_rit``: the published column, whose firing reaches others'
excitatory synapses, 20 s at 1 ms; the prior of the coupling is wide, 2.0 times exp(N(0, 0.7)), and
one recording is made with 1.5. Features are functional connectivity, spectra in half octaves, and
correlations at lags up to 30 ms. ``linear``: a linear node with white noise in each, 10 s at
0.25 ms, of which `WholeBrainDCM` has a likelihood, so that NUTS samples from what its cross-spectra
tell.

    python ci/benchmarks/amortised.py
    python ci/benchmarks/amortised.py --network jansen_rit --out simulations
    python ci/benchmarks/amortised.py --network linear --simulations 1000
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import numpy as np
from measure import table

COUPLING = 1.5
FREE = ("strength", "speed", "noise_sd")
METHODS = ("amortised", "NUTS")
FREE_LINEAR = ("strength", "speed", "noise_intensity")


def objective(network: str) -> Any:
    import bayesdcm
    from bayesdcm.neural import OrnsteinUhlenbeck, White
    from bayesdcm.observe import LaggedCorrelation, StreamedCorrelation, StreamedSpectrum

    connectome = bayesdcm.load_connectome("example", n_regions=8).normalise()
    if network == "wilson_cowan":
        node, step, duration, lags = bayesdcm.WilsonCowan(), 2.5e-4, 10.0, range(0, 25, 3)
        options = {"strength": 1.5, "noise": OrnsteinUhlenbeck(sd=0.5, tau=0.005)}
        priors = {}
    elif network == "linear":
        # Steps of 1 ms make 3.4 % more power than the equations, more than one standard deviation.
        node, step, duration, lags = bayesdcm.Linear(), 2.5e-4, 10.0, range(0, 25, 3)
        options = {"strength": 1.5, "noise": White(1.0)}
        priors = {"tau": (0.0, 0.0)}
    else:
        node, step, duration, lags = bayesdcm.JansenRit(), 1e-3, 20.0, range(0, 31, 5)
        noise = OrnsteinUhlenbeck(sd=100.0, tau=0.005, into="u_E")
        options = {"strength": 2.0, "noise": noise, "coupling": "additive"}
        options["coupled"] = ("firing", "u_E")
        priors = {"strength": (0.0, 0.49)}
    observers = [
        StreamedCorrelation(),
        StreamedSpectrum(0.5),
        LaggedCorrelation(tuple(1e-3 * lag for lag in lags)),
    ]
    return bayesdcm.SimulationObjective(
        bayesdcm.NetworkModel(node, connectome, speed=10.0, **options),
        {observer.name: "squared" for observer in observers},
        duration,
        step,
        transient=1.0,
        free=FREE if network != "linear" else FREE_LINEAR,
        priors=priors,
        observers=observers,
    )


def recording(model: Any, parameters: dict[str, float], seed: int) -> dict[str, Any]:
    found = model.simulate(parameters, seed=seed, progress=False)
    return {term.name: found[term.name] for term in model.terms}


def same_coupling(estimator: Any, model: Any, usual: float, number: int = 20) -> Any:
    """Quantiles of the coupling, (recordings, 3), of recordings that differ in their noise."""
    values = model.simulate_terms(
        {"strength": np.full(number, np.log(COUPLING / usual))}, 100 + np.arange(number), False
    )
    rows = []
    for place in range(number):
        fit = estimator.fit({name: value[place] for name, value in values.items()})
        draws = np.asarray(fit.posterior.draws)[0, :, 0]
        rows.append(usual * np.exp(np.quantile(draws, (0.05, 0.5, 0.95))))
    return np.array(rows)


def beside_nuts(estimator: Any, model: Any, number: int = 20) -> list[dict[str, Any]]:
    """Amortised posteriors and those by NUTS of linear networks: intervals, widths, distances."""
    from scipy.signal import csd

    import bayesdcm

    network, rng = model.network, np.random.default_rng(5)
    exact = bayesdcm.WholeBrainDCM(
        *(network.connectome, bayesdcm.Linear()),
        strength=network.network.strength,
        speed=10.0,
        noise=network.network.noise[0],
        likelihood="whittle",
        absolute=True,
        priors={"tau": (0.0, 0.0), "measurement_noise": (-12.0, 0.0)},
    )
    found = []
    for seed in range(number):
        true = dict(zip(FREE_LINEAR, 0.25 * rng.normal(size=3), strict=True))
        brain = replace(
            network,
            strength=1.5 * np.exp(true["strength"]),
            speed=10.0 * np.exp(true["speed"]),
            noise=replace(network.network.noise[0], intensity=np.exp(true["noise_intensity"])),
        ).simulate(
            *(10.0, model.step),
            seed=1000 + seed,
            transient=1.0,
            observers=model.observers,
            record=["x"],
            progress=False,
        )
        seen = estimator.fit({term.name: brain[term.name] for term in model.terms})
        series = brain["x"].to_numpy().T
        at, values = csd(
            *(series[:, None], series[None]),
            fs=1 / model.step,
            nperseg=round(2 / model.step),
            noverlap=0,
        )
        kept = np.searchsorted(at, np.arange(2.0, 41.0) - 1e-6)
        data = bayesdcm.SpectralData.from_arrays(
            *(np.moveaxis(values[..., kept], -1, 0), at[kept], network.connectome.region_names),
            **{"unit": "V", "sided": 1, "conjugate": True, "kind": "lfp"},
            degrees_of_freedom=len(series[0]) * model.step / 2,
        )
        sampled = bayesdcm.fit(exact, data, "nuts", draws=250, warmup=250, progress=False)
        for name, by in (("amortised", seen), ("NUTS", sampled)):
            for label in FREE_LINEAR:
                draws = np.asarray(by.idata.posterior[label]).ravel()
                low, high = np.quantile(draws, (0.05, 0.95))
                found.append((name, label, low <= true[label] <= high, draws.mean(), draws.std()))
                found[-1] += (abs(draws.mean() - true[label]),)
    rows = []
    for label in FREE_LINEAR:
        pair = [np.array([f[2:] for f in found if f[:2] == (n, label)], float) for n in METHODS]
        row = {"parameter": label}
        for name, values in zip(METHODS, pair, strict=True):
            row |= {f"{name} 90 %": values[:, 0].mean(), "sd " + name: values[:, 2].mean()}
            row["error " + name] = values[:, 3].mean()
        rows.append(row | {"r of means": np.corrcoef(pair[0][:, 1], pair[1][:, 1])[0, 1]})
    return rows


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--network", default="wilson_cowan")
    arguments.add_argument("--simulations", type=int, default=2000)
    arguments.add_argument("--brains", type=int, default=50)
    arguments.add_argument("--out", help="folder in which simulations are kept")
    given = arguments.parse_args()
    from bayesdcm.infer import train_amortised

    model = objective(given.network)
    usual = float(model.network.network.strength)
    person = recording(model, {"strength": np.log(COUPLING / usual)}, 12345)
    begun, cpu = time.perf_counter(), time.process_time()
    estimator = train_amortised(
        model, person, simulations=given.simulations, out=given.out, progress=True
    )
    print(
        f"{estimator}\ntraining, simulations included: {time.process_time() - cpu:.0f} CPU s, "
        f"{time.perf_counter() - begun:.0f} s; epochs {len(estimator.learnt.trained.losses)}",
        flush=True,
    )
    if given.network == "linear":
        cpu = time.process_time()
        print(table(beside_nuts(estimator, model)), f"{time.process_time() - cpu:.0f} CPU s")
        return
    for call in ("first", "warm"):
        begun, cpu = time.perf_counter(), time.process_time()
        fit = estimator.fit(person)
        values = fit.mean
        print(
            f"a new person, {call} call: {time.process_time() - cpu:.2f} CPU s, "
            f"{time.perf_counter() - begun:.2f} s"
        )
    draws = usual * np.exp(np.asarray(fit.posterior.draws)[0, :, 0])
    low, middle, high = np.quantile(draws, (0.05, 0.5, 0.95))
    print(f"coupling, truth {COUPLING}: median {middle:.2f}, 90 % from {low:.2f} to {high:.2f}")
    print(f"means { ({n: round(float(v), 3) for n, v in values.items()}) }\n{fit.diagnose()}")
    others = same_coupling(estimator, model, usual)
    inside = (others[:, 0] < COUPLING) & (COUPLING < others[:, 2])
    print(
        f"{len(others)} recordings with coupling {COUPLING}: medians {others[:, 1].mean():.2f} +- "
        f"{others[:, 1].std():.2f}, 90 % intervals {(others[:, 2] - others[:, 0]).mean():.2f} wide "
        f"hold it in {inside.sum()}",
        flush=True,
    )
    found = estimator.calibrate(given.brains, seed=7)
    rows = [
        {"parameter": name}
        | {f"{100 * at:.0f} %": float(found.coverage.loc[at, name]) for at in found.coverage.index}
        | {"sd / prior sd": float(found.sd_ratio[name])}
        for name in found.ranks
    ]
    print(table(rows))
    print(f"of all parameters, 90 %: {found.coverage.loc[0.9].mean():.3f}")


if __name__ == "__main__":
    main()
