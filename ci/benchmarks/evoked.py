"""Evoked responses: variational Laplace and NUTS, first and warm calls, CPU and wall seconds.

    python ci/benchmarks/evoked.py                       simulated networks
    python ci/benchmarks/evoked.py --reference-seconds 93

Two networks: the five sources of the mismatch negativity (dipoles in a sphere, 32 electrodes, two
conditions, 51 samples, 8 modes; 54 neural and 17 spatial parameters), for which SPM under Octave
took 93 CPU seconds in 64 iterations on data of the same size; and two sources with one electrode
in each, on which NUTS is run too. A warm call fits the same model to other data.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from measure import in_fresh_process, machine, table, timed

import bayesdcm
from bayesdcm.data import SphereHead

SOURCES = ("left A1", "right A1", "left STG", "right STG", "right IFG")
POSITIONS = [[-42, -22, 7], [46, -14, 8], [-61, -32, 8], [59, -25, 8], [46, 20, 8]]
NUTS = {"chains": 4}


def electrodes(n: int, radius: float) -> np.ndarray:
    """Points spread over the upper part of a sphere, m."""
    k = np.arange(n)
    height = 1 - 1.2 * (k + 0.5) / n
    angle = k * np.pi * (3 - np.sqrt(5))
    across = np.sqrt(1 - height**2)
    return radius * np.stack([across * np.cos(angle), across * np.sin(angle), height], axis=1)


def mismatch_network() -> tuple[bayesdcm.EvokedDCM, bayesdcm.EvokedData]:
    """The five sources, with a design whose signal is noise."""
    forward = np.zeros((5, 5))
    forward[2, 0] = forward[3, 1] = forward[4, 3] = 1
    lateral = np.zeros((5, 5))
    lateral[2, 3] = lateral[3, 2] = 1
    model = bayesdcm.EvokedDCM(
        forward=forward,
        backward=forward.T,
        lateral=lateral,
        modulation=forward + forward.T + np.diag([1, 1, 0, 0, 0]),
        inputs=[1, 1, 0, 0, 0],
        positions=POSITIONS,
        source_names=SOURCES,
    )
    head = SphereHead(electrodes(32, 0.09), average_reference=True)
    noise = np.random.default_rng(0).normal(size=(2, 51, 32))
    data = bayesdcm.EvokedData(
        noise - noise.mean(-1, keepdims=True),
        np.arange(51) * 0.005,
        condition_names=["standard", "deviant"],
        head=head,
    )
    return model, data


def pair() -> tuple[bayesdcm.EvokedDCM, bayesdcm.EvokedData]:
    """Two sources, an electrode in each."""
    model = bayesdcm.EvokedDCM(
        forward=[[0, 0], [1, 0]],
        backward=[[0, 1], [0, 0]],
        modulation=[[1, 0], [1, 0]],
        inputs=[1, 0],
        observation="lfp",
    )
    noise = np.random.default_rng(0).normal(size=(2, 64, 2))
    return model, bayesdcm.EvokedData(noise, np.arange(64) * 0.004)


def simulated(
    model: bayesdcm.EvokedDCM, design: bayesdcm.EvokedData, seed: int
) -> bayesdcm.EvokedData:
    rng = np.random.default_rng(seed)
    parameters = {prior.name: np.array(prior.mean) for prior in model.priors}
    parameters["B"] = 0.5 * model.modulation * rng.choice([-1, 1], size=model.modulation.shape)
    for prior in model.priors:
        if prior.name == "moment":
            parameters["moment"] = rng.normal(scale=4, size=prior.mean.shape)
    return model.simulate(parameters, design, seed, snr=3.0)


def measure(network: str, repeats: int) -> dict[str, Any]:
    import numpyro  # noqa: F401

    model, design = pair() if network == "pair" else mismatch_network()
    data = [simulated(model, design, seed) for seed in range(repeats + 1)]
    fit, first = timed(lambda: bayesdcm.fit(model, data[0]))
    costs, iterations = [], []
    for each in data[1:]:
        found, cost = timed(lambda each=each: bayesdcm.fit(model, each))
        costs.append((cost.cpu, cost.wall))
        iterations.append(found.status["n_iterations"])
    middle = np.argsort([cpu for cpu, _ in costs])[len(costs) // 2]
    return {
        "network": network,
        "method": "laplace",
        "free energy": f"{fit.log_evidence:.2f}",
        "iterations": iterations[middle],
        "first CPU s": first.cpu,
        "first wall s": first.wall,
        "warm CPU s": costs[middle][0],
        "warm wall s": costs[middle][1],
        "ms an iteration": 1000 * costs[middle][0] / iterations[middle],
    }


def measure_nuts() -> dict[str, Any]:
    model, design = pair()
    data = simulated(model, design, 1)
    fit, cost = timed(lambda: bayesdcm.fit(model, data, method="nuts", progress=False, **NUTS))
    summary = fit.summary()
    return {
        "network": "pair",
        "method": "nuts",
        "parameters": len(summary),
        "CPU s, all": cost.cpu,
        "wall s, all": cost.wall,
        "largest R-hat": f"{summary['r_hat'].max():.4f}",
        "smallest bulk ESS": f"{summary['ess_bulk'].min():.0f}",
        "divergences": int(np.asarray(fit.idata.sample_stats["diverging"]).sum()),
        "steps": float(np.asarray(fit.idata.sample_stats["n_steps"]).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference-seconds", type=float, help="CPU s of another program, mmn")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="2 repeats, no NUTS")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    repeats = 2 if options.quick else options.repeats
    if options.child:
        result = measure_nuts() if options.child == "nuts" else measure(options.child, repeats)
        print(json.dumps(result))
        return
    names = ["pair", "mmn"]
    rows = [in_fresh_process(__file__, [name, "--repeats", str(repeats)]) for name in names]
    if options.reference_seconds:
        rows[0]["reference / warm"] = ""
        rows[1]["reference / warm"] = options.reference_seconds / rows[1]["warm CPU s"]
    print(table(rows))
    if not options.quick:
        print(f"\n{table([in_fresh_process(__file__, ['nuts'])])}")
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
