"""What scores of one simulated brain are worth: their spread over realisations of the noise.

    python ci/benchmarks/whole_brain_scores.py
    python ci/benchmarks/whole_brain_scores.py --connectome FILE.npz --seeds 20

Wilson-Cowan nodes with Ornstein-Uhlenbeck noise in a network of eight regions, diffusive coupling
of 1.5, 10 m/s, 4 s at 0.1 ms after 0.3 s: the network of the tutorial on whole brains seen by MEG.
For each noise level: structure-function coupling (Pearson's r between functional connectivity and
weights over pairs of regions), and the match of two realisations (r between their functional
connectivity). Both for single realisations, mean, sd and range over seeds and over pairs of seeds;
and for the mean functional connectivity of all, which a long recording approaches.

The file, NumPy's .npz, holds ``weights`` (regions, regions) and ``distances`` or ``lengths`` (mm);
that of brainmass 0.1.1 (example_connectome.npz) is one. Without it, the bundled example is taken.
The last row is the scheme of that program: exponential Euler, delays of whole steps.
"""

from __future__ import annotations

import argparse

import bayesdcm  # isort: skip  (before JAX: it sets double precision)

import numpy as np
from measure import machine, table

from bayesdcm import observe
from bayesdcm.neural import OrnsteinUhlenbeck

STEP, DURATION, TRANSIENT, STRENGTH, SPEED = 1e-4, 4.0, 0.3, 1.5, 10.0
# Stationary sd, and time constant in s. A published sigma of the noise is the square root of 2
# times the first.
LEVELS = [(0.01, 0.01), (0.1, 0.01), (0.35, 0.005), (0.35, 0.01), (0.7, 0.005), (0.7, 0.01)]


def connectome_of(path: str | None) -> bayesdcm.Connectome:
    """The bundled connectome, or that of a file."""
    if path is None:
        return bayesdcm.load_connectome("example")
    with np.load(path) as file:
        return bayesdcm.Connectome(
            file["weights"], file["distances" if "distances" in file else "lengths"]
        )


def scores(
    connectome: bayesdcm.Connectome, sd: float, tau: float, seeds: int, scheme: str = "heun"
) -> dict[str, str]:
    """A row of the table."""
    model = bayesdcm.NetworkModel(
        bayesdcm.WilsonCowan(), connectome, "diffusive", ("E", "I_E"), STRENGTH, SPEED,
        OrnsteinUhlenbeck(sd, tau), scheme,
    )  # fmt: skip
    made = model.simulate(
        DURATION, STEP, transient=TRANSIENT, seed=range(seeds), progress=False,
        observers=[observe.StreamedCorrelation()],
    )  # fmt: skip
    fc = made.functional_connectivity.to_numpy()
    coupling = np.array([observe.structure_function_coupling(f, connectome.weights) for f in fc])
    pairs = [
        float(observe.matrix_correlation(one, other))
        for i, one in enumerate(fc)
        for other in fc[:i]
    ]
    half = seeds // 2
    whole = observe.structure_function_coupling(fc.mean(0), connectome.weights)
    halves = observe.matrix_correlation(fc[:half].mean(0), fc[half:].mean(0))
    mean = float(observe.upper_triangle(fc).mean())
    return {
        "sd, tau": f"{sd:g}, {1000 * tau:g} ms",
        "mean FC": f"{mean:.2f}",
        "structure-function coupling": spread(coupling),
        "of the mean FC": f"{float(whole):.2f}",
        "match of two": spread(np.array(pairs)),
        "of two means": f"{float(halves):.2f}",
    }


def spread(values: np.ndarray) -> str:
    """Mean, standard deviation and range."""
    low, high = values.min(), values.max()
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f} ({low:.2f} to {high:.2f})"


def whole_steps(connectome: bayesdcm.Connectome) -> bayesdcm.Connectome:
    """Lengths whose delays are whole numbers of steps, rounded up."""
    per_step = 1000 * SPEED * STEP
    return connectome.replace(lengths=np.ceil(connectome.lengths / per_step - 1e-9) * per_step)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connectome", metavar="NPZ")
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    connectome = connectome_of(arguments.connectome)
    rows = [scores(connectome, sd, tau, arguments.seeds) for sd, tau in LEVELS]
    rounded = scores(
        whole_steps(connectome), *LEVELS[-1], arguments.seeds, scheme="exponential_euler"
    )
    rounded["sd, tau"] += ", whole-step delays"
    print(f"{machine()}; {arguments.seeds} seeds, {connectome!r}")
    print(table([*rows, rounded]))


if __name__ == "__main__":
    main()
