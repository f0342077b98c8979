"""NUTS on the posterior of a small ERP model, written as a user would write it.

The model is that of Baldy et al. (2025), J R Soc Interface 22:20240880,
https://doi.org/10.1098/rsif.2024.0880: one source of an evoked response (three populations, nine
states, ten parameters), integrated by explicit Euler at 0.1 ms, seen every millisecond with noise
of known size. The script simulates such data from the published parameters. With the fixture of
the published data and a reference posterior it compares means and standard deviations as well:

    python ci/benchmarks/erp_posterior.py
    python ci/benchmarks/erp_posterior.py --fixture fixture_baldy_erp.npz \
        --reference reference_baldy_erp.json

The published NumPyro code, with its own settings, gives 1.36 effective draws (of the worst
parameter) per CPU-second of sampling; measured on a machine like the one of docs/performance.md.
"""

from __future__ import annotations

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from measure import Cost, machine, table, timed
from numpyro.infer.util import log_density

import bayesdcm

# True value, shape and scale of the gamma prior. Times in ms, potentials in mV.
PARAMETERS = {
    "g_1": (0.42, 18.16, 0.03),
    "g_2": (0.76, 29.9, 0.02),
    "g_3": (0.15, 29.14, 0.005),
    "g_4": (0.16, 30.77, 0.007),
    "delta": (12.13, 22.87, 0.51),
    "tau_i": (7.77, 34.67, 0.23),
    "h_i": (27.87, 20.44, 0.96),
    "tau_e": (5.77, 33.02, 0.16),
    "h_e": (1.63, 24.17, 0.07),
    "u": (3.94, 23.62, 0.13),
}
STEP, STEPS, STEPS_PER_OBSERVATION = 0.1, 2000, 10
NOISE_SD = 0.1
PUBLISHED_CODE = 1.36
CHECK_VALUE = -170.418272675921


# The model: this is all that a user writes.


def firing(v):
    return 1 / (1 + jnp.exp(-0.56 * v)) - 0.5


def flow(x, p):
    v1, v2, v3, i1, i2, i3, v4, i4, vp = x
    ke, ki, delay = 1 / p["tau_e"], 1 / p["tau_i"], p["delta"]
    output = firing(vp - delay * (i2 - i3))
    to_pyramidal = p["g_2"] * firing(v1 - delay * i1)
    to_inhibited = p["g_4"] * firing(v4 - delay * i4)
    return jnp.stack(
        [
            i1,
            i2,
            i3,
            ke * (p["h_e"] * (p["g_1"] * output + p["u"]) - ke * v1 - 2 * i1),
            ke * (p["h_e"] * to_pyramidal - ke * v2 - 2 * i2),
            ki * (p["h_i"] * to_inhibited - ki * v3 - 2 * i3),
            i4,
            ke * (p["h_e"] * p["g_3"] * output - ke * v4 - 2 * i4),
            i2 - i3,
        ]
    )


def potential(p):
    """Pyramidal depolarisation every millisecond, shape (201,), mV."""

    def step(x, _):
        x = x + STEP * flow(x, p)
        return x, x[8]

    _, v = jax.lax.scan(step, jnp.zeros(9), length=STEPS)
    return jnp.concatenate([jnp.zeros(1), v[STEPS_PER_OBSERVATION - 1 :: STEPS_PER_OBSERVATION]])


def program(data):
    p = {
        name: numpyro.sample(name, dist.Gamma(shape, 1 / scale))
        for name, (_, shape, scale) in PARAMETERS.items()
    }
    log_precision = -2 * np.log(NOISE_SD)
    numpyro.sample("v", bayesdcm.observe.gaussian(potential(p), log_precision), obs=data)


# The measurement.


def true_values() -> dict[str, float]:
    return {name: value for name, (value, _, _) in PARAMETERS.items()}


def simulated(seed: int) -> np.ndarray:
    clean = np.asarray(potential(true_values()))
    return clean + NOISE_SD * np.random.default_rng(seed).normal(size=clean.shape)


def check_density(data: np.ndarray) -> str:
    """-log p at the true parameters, in the coordinates of the logarithms."""
    value, _ = log_density(program, (data,), {}, true_values())
    ours = -float(value) - sum(np.log(v) for v in true_values().values())
    return f"-log p at the true parameters: {ours:.12f}; expected {CHECK_VALUE:.12f}"


def compare(fit: bayesdcm.Fit, path: str) -> list[dict]:
    """z-scores of the means and ratios of the standard deviations against a reference."""
    with open(path) as file:
        reference = json.load(file)
    ours = fit.summary()
    rows = []
    for name in PARAMETERS:
        mean, sd = float(ours.loc[name, "mean"]), float(ours.loc[name, "sd"])
        theirs = reference["params"][name]
        mcse = np.hypot(sd / np.sqrt(ours.loc[name, "ess_bulk"]), theirs["mcse_mean"])
        rows.append(
            {
                "parameter": name,
                "mean": mean,
                "reference": theirs["mean"],
                "z": float((mean - theirs["mean"]) / mcse),
                "sd ratio": sd / theirs["sd"],
            }
        )
    return rows


def run(data: np.ndarray, draws: int, warmup: int, seed: int) -> tuple[bayesdcm.Fit, Cost]:
    return timed(
        lambda: bayesdcm.fit(
            program, data, "nuts", draws=draws, warmup=warmup, seed=seed, progress=False
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fixture", help="npz file with y_obs (the published data)")
    parser.add_argument("--reference", help="json file with the reference posterior")
    parser.add_argument("--draws", type=int, default=2500, help="draws of each of four chains")
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="250 draws")
    options = parser.parse_args()
    draws = 250 if options.quick else options.draws

    data = np.load(options.fixture)["y_obs"] if options.fixture else simulated(options.seed)
    if options.fixture:
        print(check_density(data) + "\n")
    fit, first = run(data, draws, options.warmup, options.seed)
    # Compiling costs the same in a run of the shortest length: two blocks of 25 a chain.
    _, shortest = run(data, 25, 25, options.seed)
    share = 50 / (draws + options.warmup)
    sampling = (first.cpu - shortest.cpu) / (1 - share)
    summary, statistics = fit.summary(), fit.idata.sample_stats
    ess = float(summary["ess_bulk"].min())
    print(
        table(
            [
                {"quantity": "draws", "value": f"4 x {draws}, {options.warmup} warm-up"},
                {"quantity": "CPU s, all of it", "value": first.cpu},
                {"quantity": "wall s, all of it", "value": first.wall},
                {"quantity": "CPU s, compiling and starting point", "value": first.cpu - sampling},
                {"quantity": "CPU s, warm-up and sampling", "value": sampling},
                {"quantity": "leapfrog steps a draw", "value": float(statistics.n_steps.mean())},
                {"quantity": "smallest bulk ESS", "value": ess},
                {"quantity": "largest R-hat", "value": f"{summary['r_hat'].max():.4f}"},
                {"quantity": "divergences", "value": int(statistics.diverging.sum())},
                {"quantity": "ESS per CPU s, all of it", "value": ess / first.cpu},
                {"quantity": "ESS per CPU s of sampling", "value": ess / sampling},
                {"quantity": "times the published code", "value": ess / sampling / PUBLISHED_CODE},
            ]
        )
    )
    print(f"\n{machine()}")
    if options.reference:
        rows = compare(fit, options.reference)
        print("\n" + table(rows))
        worst = max(abs(row["z"]) for row in rows)
        ratios = [row["sd ratio"] for row in rows]
        print(f"\nlargest |z| {worst:.2f}; sd ratios {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
