"""The laminar column: its cost, its own responses inferred, and those of hnn-core's network.

    python ci/benchmarks/laminar.py cost            one response, forward and with its gradient
    python ci/benchmarks/laminar.py own [N]         N of its own responses: errors and intervals
    python ci/benchmarks/laminar.py drives [N]      N responses with 2, 3, 4 drives: confusion
    python ci/benchmarks/laminar.py nuts            NUTS on one of its own responses
    python ci/benchmarks/laminar.py network FOLDER  what the network did (FILE.npz, one a setting)

With ``free`` after the other words, ``own`` and ``network`` free weights and spreads, too.

A file of ``network`` has ``dipoles`` (trials, times) in nAm at ``times``, ms; ``events`` (trials,
drives), ms; and of each drive ``locations``, ``spreads``, and ``weights`` (drives, cells, AMPA and
NMDA), uS. True times are the means of the events. Responses are smoothed by 20 ms, the SNR is 5
(standard deviations over time), and drives start 5 to 10 ms off.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from measure import median_cost, timed

import bayesdcm
from bayesdcm import DipoleData, Drive, LaminarDCM
from bayesdcm.data.drive import CELLS

EXAMPLE = {
    "evprox1": (
        "proximal",
        21.0,
        4.0,
        [0.0036, 0.0039, 0.0019, 0.002],
        [0.0029, 0.0005, 0.003, 0.0019],
    ),
    "evdist1": ("distal", 32.0, 2.5, [0.0043, 0.0032, 0.0, 0.0009], [0.0029, 0.0051, 0.0, 0.001]),
    "evdist2": ("distal", 84.0, 4.5, [0.0041, 0.0019, 0.0, 0.0018], [0.0032, 0.0018, 0.0, 0.0017]),
    "evprox2": (
        "proximal",
        134.0,
        4.5,
        [0.003, 0.0039, 0.004, 0.002],
        [0.001, 0.0005, 0.002, 0.002],
    ),
}
SNR, SMOOTHING = 5.0, 0.02
# Standard deviations of logarithms where weights and spreads are free.
WIDTHS = {"spread": 0.3, "weights_ampa": 0.3, "weights_nmda": 0.3}


def drive(name: str, location: str, time: float, spread: float, ampa: list, nmda: list) -> Drive:
    """A drive with weights in the order of `CELLS`."""
    weights = [
        {c: float(w) for c, w in zip(CELLS, kind, strict=True) if w} for kind in (ampa, nmda)
    ]
    return Drive(name, location, time, spread, *weights)


def example(spread: bool = True) -> list[Drive]:
    """The drives of hnn-core's somatosensory example."""
    return [
        drive(name, location, time, sd if spread else 0.0, *weights)
        for name, (location, time, sd, *weights) in EXAMPLE.items()
    ]


def design() -> DipoleData:
    """Times and smoothing of a response; the dipole counts for nothing."""
    times = np.arange(0.0005, 0.1701, 0.0005)
    return DipoleData(1e-12 * np.sin(40 * times), times, noise_sd=1e-13).smooth(SMOOTHING)


def means(model: LaminarDCM) -> dict:
    """Means of the priors."""
    return {prior.name: jnp.asarray(prior.mean) for prior in model.priors}


def cost() -> None:
    """CPU ms of one response of 170 ms."""
    for spread in (False, True):
        model = LaminarDCM([each.free(time=5.0) for each in example(spread)])
        prepared = model.prepare(design())

        def dipole(time: jax.Array, model=model, prepared=prepared, parts=model.parts) -> jax.Array:
            neural, solver, observer = parts
            at = means(model) | {"time": time}
            states = solver.solve(neural, observer, at, prepared.steps)
            return observer.predict(states[..., :4], at, prepared.space)

        forward = jax.jit(dipole)
        gradient = jax.jit(jax.value_and_grad(lambda t, f=dipole: (f(t) ** 2).sum()))
        at = means(model)["time"]
        for name, function in (("forward", forward), ("with gradient", gradient)):
            _, first = timed(lambda f=function, at=at: f(at))
            warm = median_cost(lambda f=function, at=at: f(at), 5, 20)
            trials = 8 if spread else 1
            print(f"{trials} trials, {name}: {1e3 * warm.cpu:.2f} CPU ms, first {first.cpu:.1f} s")


def own(number: int, widths: dict[str, float]) -> None:
    """Errors and coverage of times in responses of the column, drawn from the prior."""
    drives = [each.free(time=4.0, **widths) for each in example()]
    model = LaminarDCM(drives, model_error=0.0)
    free = [prior for prior in model.priors if prior.name in widths]
    errors, sds, rng = [], [], np.random.default_rng(11)
    for seed in range(number):
        at = means(model)
        true = np.asarray(at["time"]) + 4 * rng.normal(size=4)
        scale = np.sqrt(0.5) * rng.normal()
        at |= {"time": true, "scale": scale}
        at |= {p.name: np.sqrt(p.variance) * rng.normal(size=p.mean.shape) for p in free}
        data = model.simulate(at, design(), seed, snr=SNR)
        fit = bayesdcm.fit(model, data, "laplace", progress=False)
        errors.append(fit.mean["time"] - true)
        sds.append(fit.sd["time"])
    report(np.array(errors), np.array(sds))


def report(errors: np.ndarray, sds: np.ndarray) -> None:
    """Errors and intervals, over all drives and by drive."""
    away = np.abs(errors)
    print(
        f"error of times: mean {away.mean():.2f}, median {np.median(away):.2f} ms, "
        f"{100 * (away < 6).mean():.0f} % under 6 ms; 90 % intervals hold "
        f"{100 * (away < 1.645 * sds).mean():.1f} % of {away.size}"
    )


def confusion(number: int) -> None:
    """How many drives the evidence finds in responses with 2, 3 and 4, over N data sets."""
    sets = {2: (0, 2), 3: (0, 1, 2), 4: (0, 1, 2, 3)}
    table, rng = np.zeros((3, 3), int), np.random.default_rng(12)
    for seed in range(number):
        true = 2 + seed % 3
        models = {
            k: LaminarDCM([example()[i].free(time=4.0) for i in chosen], model_error=0.0)
            for k, chosen in sets.items()
        }
        at = means(models[true])
        at["time"] = at["time"] + 4 * rng.normal(size=true)
        data = models[true].simulate(at, design(), seed, snr=SNR)
        fits = {str(k): bayesdcm.fit(m, data, "laplace", progress=False) for k, m in models.items()}
        best = bayesdcm.compare.compare(fits).index[0]
        table[true - 2, int(best) - 2] += 1
    print("rows: drives there are (2, 3, 4); columns: drives found")
    print(table)


def nuts() -> None:
    """NUTS on one response, with and without jitter of the drives."""
    for spread in (True, False):
        model = LaminarDCM([each.free(time=5.0) for each in example(spread)], model_error=0.0)
        at = means(model)
        at["time"] = at["time"] + np.array([6.0, -5.0, 5.0, -6.0])
        data = model.simulate(at, design(), 1, snr=SNR)
        fit, used = timed(lambda m=model, d=data: bayesdcm.fit(m, d, "nuts", progress=False))
        worst = float(fit.summary()["r_hat"].max())
        trials = 8 if spread else 1
        print(f"{trials} trials: {used.cpu:.0f} CPU s, largest R-hat {worst:.4f}; {fit.diagnose()}")


def network(folder: Path, widths: dict[str, float]) -> None:
    """How well the column explains the network, and times inferred from its dipoles."""
    shares, errors, sds = [], [], []
    for path in sorted(folder.glob("*.npz")):
        run = np.load(path)
        mean = DipoleData.from_arrays(run["dipoles"].mean(0), run["times"], "nAm", "ms")
        clean = mean.smooth(SMOOTHING)
        fixed = [
            drive(f"drive{k}", str(where), float(time), float(spread), *weights.T)
            for k, (where, time, spread, weights) in enumerate(
                zip(
                    run["locations"],
                    run["events"].mean(0),
                    run["spreads"],
                    run["weights"],
                    strict=True,
                )
            )
        ]
        trials = []
        for events in run["events"]:
            exact = [d.at(time=float(t), spread=0.0) for d, t in zip(fixed, events, strict=True)]
            model = LaminarDCM(exact)
            trials.append(model.predict(means(model), clean))
        error = ((clean.dipole - np.mean(trials, axis=0)) ** 2).sum()
        shares.append(1 - error / ((clean.dipole - clean.dipole.mean()) ** 2).sum())
        rng = np.random.default_rng(len(shares))
        for _ in range(3):
            sd = clean.dipole.std() / SNR
            noise = DipoleData(rng.normal(size=clean.n_times) * 1e-9, clean.times)
            noise = noise.smooth(SMOOTHING).dipole
            data = clean.replace(dipole=clean.dipole + sd / noise.std() * noise, noise_sd=sd)
            shift = rng.choice([-1, 1], len(fixed)) * rng.uniform(5, 10, len(fixed))
            starts = [
                d.replace(time=max(d.time + by, 2.0 + d.spread)).free(time=10.0, **widths)
                for d, by in zip(fixed, shift, strict=True)
            ]
            fit = bayesdcm.fit(LaminarDCM(starts), data, "laplace", progress=False)
            errors += list(fit.mean["time"] - run["events"].mean(0))
            sds += list(fit.sd["time"])
        print(f"{path.stem}: R2 {shares[-1]:.3f}", np.round(errors[-3 * len(fixed) :], 1))
    print(
        f"R2 over {len(shares)} settings: median {np.median(shares):.3f}, "
        f"mean {np.mean(shares):.3f}, least {min(shares):.3f}"
    )
    report(np.array(errors), np.array(sds))


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)
    what, *rest = sys.argv[1:] or ["cost"]
    widths = WIDTHS if "free" in rest else {}
    rest = [word for word in rest if word != "free"]
    number = int(rest[0]) if rest and what != "network" else 30
    match what:
        case "network":
            network(Path(rest[0]), widths)
        case "own":
            own(number, widths)
        case "drives":
            confusion(number)
        case "cost" | "nuts":
            {"cost": cost, "nuts": nuts}[what]()
