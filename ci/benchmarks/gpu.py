"""The same work on a CPU and on a GPU, double precision, as one table.

    python ci/benchmarks/gpu.py
    python ci/benchmarks/gpu.py --small   # sizes for a look, a few minutes without a GPU

Variational Laplace of one subject and of a thousand, NUTS with 4, 64 and 512 chains (three
regions, the bundled example's structure), steps of a stochastic network of 400 regions with delays,
and regression DCM of 400 regions. Each row is run in processes of its own, one a device: a first
call, which compiles (programs kept by earlier runs are not used), and a second one on other data.
Where JAX finds no GPU, the table has the CPU's columns only and says so.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from measure import in_fresh_process, machine, table, timed

# What is done and of how many, in full and small.
ROWS = (
    ("laplace", (1, 1000), (1, 16)),
    ("nuts", (4, 64, 512), (2, 4, 8)),
    ("network", (400,), (40,)),
    ("regression", (400,), (40,)),
)
LABELS = {
    "laplace": "variational Laplace, subjects: {:,}",
    "nuts": "NUTS, chains: {:,}",
    "network": "1,000 steps of a network, regions: {:,}",
    "regression": "regression DCM, regions: {:,}",
}
SCANS, DRAWS, FEW_DRAWS = 160, 500, 50


def laplace(number: int) -> Callable[[int], Any]:
    """Fits of so many subjects; how many converged."""
    from group import subjects

    from bayesdcm.group import fit_group

    model, data = subjects(2 * number, SCANS, "nonlinear")
    names = list(data)

    def call(turn: int) -> str:
        chosen = {name: data[name] for name in names[turn * number : (turn + 1) * number]}
        group = fit_group(model, chosen, progress=False)
        return f"{sum(bool(fit.status['converged']) for fit in group)} converged"

    return call


def nuts(chains: int, draws: int) -> Callable[[int], Any]:
    """Draws of one posterior; what they are worth."""
    from group import subjects

    import bayesdcm

    model, data = subjects(2, SCANS, "nonlinear")
    subject = list(data.values())

    def call(turn: int) -> str:
        given = {"chains": chains, "draws": draws, "progress": False, "seed": turn}
        facts = bayesdcm.fit(model, subject[turn], "nuts", **given).diagnose().facts
        return f"R-hat {facts['r_hat']:.3f}, smallest bulk ESS {facts['ess_bulk']:.0f}"

    return call


def network(regions: int) -> Callable[[int], Any]:
    """Steps of .1 ms of Wilson-Cowan nodes."""
    import jax
    import jax.numpy as jnp
    from network import STEP, brain

    model, steps = brain(regions), 1000
    run = jax.jit(
        lambda key: model.run({"strength": jnp.zeros(())}, key, steps * STEP, STEP, record=("E",))
    )

    def call(turn: int) -> str:
        jax.block_until_ready(run(jax.random.key(turn)))
        return f"{steps} steps"

    return call


def regression(regions: int) -> Callable[[int], Any]:
    """Regression DCM of a run at rest."""
    from regression import recording

    import bayesdcm

    model = bayesdcm.RegressionDCM([[1] * regions] * regions)
    data = [recording(regions, 1000, seed) for seed in range(2)]

    def call(turn: int) -> str:
        fit = bayesdcm.fit(model, data[turn], progress=False)
        return f"{fit.log_evidence:.0f} nats"

    return call


def child(kind: str, size: int, draws: int) -> None:
    """One row on the device that JAX was told to use."""
    import bayesdcm  # noqa: F401  (before JAX: it sets double precision)

    calls = {"laplace": laplace, "network": network, "regression": regression}
    call = nuts(size, draws) if kind == "nuts" else calls[kind](size)
    (_, first), (found, second) = (timed(lambda turn=turn: call(turn)) for turn in range(2))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps([first.wall, second.wall, second.cpu, peak, found]))


def has_gpu() -> bool:
    """Whether JAX finds one, asked in a process of its own, which gives it back."""
    code = "import jax; jax.devices('gpu')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="few subjects, chains and regions")
    parser.add_argument("--only", choices=LABELS, help="one kind of rows")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, *numbers = options.child
        child(kind, *map(int, numbers))
        return
    devices = {"cpu": "CPU"} | ({"cuda": "GPU"} if has_gpu() else {})
    print(machine() + (", small sizes" if options.small else ""))
    if len(devices) == 1:
        print("No GPU was found: what follows is the CPU's.")
    rows = []
    for kind, full, few in ROWS:
        if options.only not in (None, kind):
            continue
        for size in few if options.small else full:
            row: dict[str, Any] = {"": LABELS[kind].format(size)}
            for device, name in devices.items():
                environment = {"JAX_PLATFORMS": device, "BAYESDCM_KEEP_COMPILED": "0"}
                arguments = [kind, str(size), str(FEW_DRAWS if options.small else DRAWS)]
                done = in_fresh_process(__file__, arguments, environment)
                columns = ("first, s", "second, s", "second, CPU s", "host memory, GB", "result")
                row |= {f"{name}: {c}": value for c, value in zip(columns, done, strict=True)}
            if len(devices) == 2:
                row["CPU / GPU, second"] = row["CPU: second, s"] / row["GPU: second, s"]
            rows.append(row)
            print(table([row]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(rows))


if __name__ == "__main__":
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    main()
