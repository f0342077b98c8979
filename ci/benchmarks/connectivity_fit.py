"""Functional connectivity of 84 regions, fitted by simulation: correlation and cost.

Weights and the recorded connectivity are those that tvboptim's wheel brings (data set
"dk_average"); ``--peer PYTHON`` is an interpreter that has it. Nodes are reduced Wong-Wang with
white noise, coupled by square roots of the weights; what is fitted are the strength of the coupling
and the input I_0, of all regions in common or of each. The loss is 1 less the correlation, over
pairs of regions, of the simulated synaptic activity's connectivity with the recorded one's, in
sample. Beside each fit stand the correlation with noise that was not fitted, and that of a linear
network whose connectivity is known in closed form: by its coupling alone, and with a decay of each
region. CPU seconds include compilation.

    python ci/benchmarks/connectivity_fit.py --peer /path/to/python
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import table

STEP, TRANSIENT = 0.01, 10.0
# CPU seconds of tvboptim's own fits of the same data, and the correlations that they reach.
PEER_SECONDS = 399.0
PEER = {2: 0.349, 85: 0.556}
DUMP = """
import sys, numpy as np, tvboptim.data as data
weights, lengths, names = data.load_structural_connectivity("dk_average")
recorded = np.array(data.load_functional_connectivity("dk_average"), float)
np.fill_diagonal(recorded, 1.0)
np.savez(sys.argv[1], weights=np.asarray(weights, float), names=[str(n) for n in names],
         recorded=recorded)
"""


def brain(peer: str) -> tuple[Any, np.ndarray]:
    """Connectome with square roots of weights, largest eigenvalue 1, and recorded connectivity."""
    import bayesdcm

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "brain.npz"
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "XLA_FLAGS")}
        subprocess.run([peer, "-W", "ignore", "-c", DUMP, str(path)], check=True, env=environment)
        with np.load(path) as arrays:
            weights, names = np.sqrt(arrays["weights"]), arrays["names"].tolist()
            recorded = arrays["recorded"]
    return bayesdcm.Connectome(weights, region_names=names).normalise("radius"), recorded


def objective(connectome: Any, parameters: int, duration: float) -> Any:
    """Strength of the coupling, and input of all regions in common or of each."""
    import bayesdcm
    from bayesdcm.neural import White

    network = bayesdcm.NetworkModel(
        bayesdcm.WongWang(w=0.3),
        connectome,
        coupling="additive",
        coupled=("S", "S_in"),
        strength=0.8,
        speed=None,
        noise=White(0.02),
        regional=("I_0",) if parameters > 2 else (),
    )
    return bayesdcm.SimulationObjective(
        network,
        {"functional_connectivity": "correlation"},
        duration,
        STEP,
        TRANSIENT,
        free=("strength", "I_0"),
        priors={"I_0": (0.0, 0.01)},
        loss_unit=1e-4,
    )


def linear_fit(connectome: Any, recorded: np.ndarray, parameters: int) -> tuple[float, float]:
    """Best correlation of a linear network, dx = (-D + g W) x dt + noise, and CPU seconds."""
    import jax
    import jax.numpy as jnp
    from scipy.optimize import minimize

    weights, n = jnp.asarray(connectome.weights), len(recorded)
    assert np.allclose(weights, weights.T)
    pairs = np.triu_indices(n, 1)
    target = jnp.asarray(recorded[pairs])

    def loss(vector: jax.Array) -> jax.Array:
        decay = jnp.exp(vector[1:]) if parameters > 2 else jnp.ones(n)
        root = jnp.sqrt(decay)
        # A share of the coupling at which the network becomes unstable.
        scaled = weights / jnp.outer(root, root)
        share = jax.nn.sigmoid(vector[0]) / jnp.linalg.eigvalsh(scaled)[-1]
        # Symmetric, so that the stationary covariance is the inverse of the rate.
        covariance = jnp.linalg.inv(jnp.diag(decay) - share * weights)
        sd = jnp.sqrt(jnp.diagonal(covariance))
        found = (covariance / jnp.outer(sd, sd))[pairs]
        return 1 - jnp.corrcoef(found, target)[0, 1]

    begun = time.process_time()
    start = np.zeros(1 if parameters == 2 else parameters)
    start[0] = 2.0
    found = minimize(jax.jit(jax.value_and_grad(loss)), start, jac=True, method="L-BFGS-B")
    return 1 - float(found.fun), time.process_time() - begun


def fitted(model: Any, recorded: np.ndarray, method: str, options: dict[str, Any]) -> dict:
    import bayesdcm

    begun = time.process_time(), time.perf_counter()
    fit = bayesdcm.fit(model, recorded, method, progress=False, **options)
    cpu, wall = time.process_time() - begun[0], time.perf_counter() - begun[1]
    unit = model.loss_unit
    other = 1 + unit * np.array(fit.status["log_likelihood_other_noise"])
    return {
        "method": method,
        "parameters": len(fit.labels),
        "correlation": 1 + unit * fit.status["log_likelihood"],
        "other noise": f"{other.mean():.3f} (sd {other.std():.3f})",
        "starts at the best": f"{fit.status['starts_reached']} of {fit.status['starts']}",
        "CPU s": cpu,
        "wall s": wall,
    }


# Seconds that are simulated, and options.
RUNS = {
    2: {
        "gradient": (200.0, {"starts": 2, "steps": 40, "learning_rate": 0.2}),
        "evolution": (200.0, {"starts": 2, "generations": 15}),
    },
    85: {
        "gradient": (200.0, {"starts": 1, "steps": 80, "learning_rate": 0.05}),
        "evolution": (60.0, {"starts": 1, "generations": 150, "width": 0.5}),
    },
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--peer", required=True, help="interpreter that has tvboptim")
    connectome, recorded = brain(arguments.parse_args().peer)
    rows = []
    for parameters, runs in RUNS.items():
        linear, seconds = linear_fit(connectome, recorded, parameters)
        for method, (duration, options) in runs.items():
            model = objective(connectome, parameters, duration)
            row = fitted(model, recorded, method, options)
            row |= {"tvboptim": PEER[parameters], "of its CPU s": row["CPU s"] / PEER_SECONDS}
            rows.append(row | {"linear": linear, "linear CPU s": seconds})
            print(row, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
