"""Coupling strength and conduction speed, recovered from simulated MEG of 20 brains.

The example connectome of 8 regions, a Wilson-Cowan node with Ornstein-Uhlenbeck noise in each, 16
magnetometers, 40 s at 0.25 ms. True strength and speed are drawn from the prior, log scalings of
1.5 and of 10 m/s with a standard deviation of 0.25. The loss compares covariances of the sensors
at lags of 0 to 24 ms, by their mean squared difference; what is fitted has other noise than the
data. A brain counts as recovered where an estimate is within half a prior standard deviation of
the truth.

    python ci/benchmarks/fit_recovery.py
    python ci/benchmarks/fit_recovery.py --brains 5 --method evolution
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from measure import table

DURATION, STEP, TRANSIENT = 40.0, 2.5e-4, 0.3
SAMPLING = 1e-3
LAGS = range(0, 25, 3)
DEVIATION = 0.25
NAMES = ("strength", "speed")
OPTIONS = {
    "gradient": {"starts": 4, "steps": 30, "learning_rate": 0.3},
    "evolution": {"starts": 4, "generations": 15},
}


def lagged(series: Any) -> Any:
    """Covariances at all lags, (lags, channels, channels), over the variance of the channels."""
    import jax.numpy as jnp

    centred = series - series.mean(0)
    length = len(series) - max(LAGS)
    matrices = [centred[lag : lag + length].T @ centred[:length] for lag in LAGS]
    return jnp.stack(matrices) / jnp.trace(matrices[0])


def loss(results: Any, observed: Any) -> Any:
    """Squared difference of lagged covariances over the squares of those of the data."""
    return ((lagged(results["meg"]) - observed) ** 2).sum() / (observed**2).sum()


def objective() -> Any:
    import bayesdcm
    from bayesdcm.neural import OrnsteinUhlenbeck
    from bayesdcm.observe import LeadField

    network = bayesdcm.NetworkModel(
        bayesdcm.WilsonCowan(),
        bayesdcm.load_connectome("example", n_regions=8).normalise(),
        strength=1.5,
        speed=10.0,
        noise=OrnsteinUhlenbeck(sd=0.5, tau=0.005),
    )
    sensors = np.random.default_rng(0).normal(size=(16, 8))
    meg = LeadField(sensors, sampling_interval=SAMPLING, name="meg")
    return bayesdcm.SimulationObjective(
        network, loss, DURATION, STEP, TRANSIENT, observers=[meg], loss_unit=1e-3
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--brains", type=int, default=20)
    arguments.add_argument("--method", choices=list(OPTIONS), default="gradient")
    given = arguments.parse_args()
    import bayesdcm

    model, rows = objective(), []
    rng = np.random.default_rng(1)
    for brain in range(given.brains):
        truth = dict(zip(NAMES, DEVIATION * rng.normal(size=2), strict=True))
        recording = model.simulate(truth, seed=1000 + brain, progress=False).meg
        begun = time.process_time()
        observed = np.asarray(lagged(np.asarray(recording)))
        options = OPTIONS[given.method]
        fit = bayesdcm.fit(model, observed, given.method, seed=brain, progress=False, **options)
        found = {name: float(fit.mean[name]) for name in NAMES}
        row: dict[str, Any] = {"brain": brain + 1}
        for name, usual in zip(NAMES, (1.5, 10.0), strict=True):
            row[f"true {name}"] = usual * np.exp(truth[name])
            row[f"found {name}"] = usual * np.exp(found[name])
        far = [n for n in NAMES if abs(found[n] - truth[n]) > DEVIATION / 2]
        at_truth = model.losses(truth, observed)["objective"]
        row |= {
            "loss": model.losses(found, observed)["objective"],
            "at the truth": at_truth,
            "starts at the best": f"{fit.status['starts_reached']} of {fit.status['starts']}",
            "missed": ", ".join(far) or "-",
            "CPU s": time.process_time() - begun,
        }
        rows.append(row)
        print(f"brain {brain + 1}: {row}", flush=True)
    print(table(rows))
    for name in NAMES:
        truth = np.log([row[f"true {name}"] for row in rows])
        found = np.log([row[f"found {name}"] for row in rows])
        error = found - truth
        print(
            f"{name}: {sum(name not in row['missed'] for row in rows)} of {len(rows)} recovered, "
            f"median error {100 * np.median(np.abs(error)):.1f} %, worst "
            f"{100 * np.abs(error).max():.0f} %, correlation {np.corrcoef(truth, found)[0, 1]:.2f}"
        )


if __name__ == "__main__":
    main()
