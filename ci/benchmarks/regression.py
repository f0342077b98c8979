"""Speed, memory and coverage of regression DCM.

python ci/benchmarks/regression.py speed [N] [sparse]     one subject of N regions, 1,000 scans
python ci/benchmarks/regression.py cohort [N] [S] FOLDER  S subjects through fit_group
python ci/benchmarks/regression.py coverage [R]           intervals of A over R simulated runs
"""

from __future__ import annotations

import resource
import sys
import time
import warnings

import numpy as np

import bayesdcm
from bayesdcm import BoldData, RegressionDCM
from bayesdcm.data import BoldDesign


def network(n: int, rng: np.random.Generator, density: float = 0.1) -> np.ndarray:
    """Connections of n regions, stable, in Hz."""
    between = ~np.eye(n, dtype=bool)
    A = np.where(between & (rng.random((n, n)) < density), rng.normal(size=(n, n)), 0.0)
    A *= 0.35 / max(np.abs(np.linalg.eigvals(A)).max(), 0.7)
    return A - 0.5 * np.eye(n)


def recording(n: int, n_scans: int, seed: int, repetition_time: float = 0.72) -> BoldData:
    """A run at rest, of the model's own dynamics."""
    rng = np.random.default_rng(seed)
    model = RegressionDCM(np.ones((n, n)))
    design = BoldDesign(n_scans, repetition_time, None, None, [f"R{i + 1}" for i in range(n)])
    parameters = {"A": network(n, rng), "log_precision": np.full(n, 2.0)}
    return model.simulate(parameters, design, seed=seed)


def speed(n: int, sparse: bool) -> None:
    """CPU and wall seconds of a first and a second fit, and the largest memory."""
    data = recording(n, 1000, 0)
    model = RegressionDCM(np.ones((n, n)), sparse=sparse)
    for name in ("first", "second"):
        wall, cpu = time.perf_counter(), time.process_time()
        fit = bayesdcm.fit(model, data.replace(), progress=False)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{name}: {cpu:.2f} CPU s, {wall:.2f} s, peak {peak:.2f} GB; {fit.status}")


def cohort(n: int, subjects: int, folder: str) -> None:
    """A cohort through `fit_group`, and effects on some of its connections."""
    data = {f"sub-{k:02d}": recording(n, 300, k) for k in range(subjects)}
    wall, cpu = time.perf_counter(), time.process_time()
    group = bayesdcm.fit_group(RegressionDCM(np.ones((n, n))), data, out=folder, progress=False)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{group}: {cpu:.1f} CPU s, {wall:.1f} s, peak {peak:.2f} GB")
    wanted = [f"A[R{i}, R{j}]" for i in range(1, 7) for j in range(1, 7)]
    wall = time.perf_counter()
    effects = bayesdcm.peb(group, parameters=wanted)
    print(f"{effects!r}: {time.perf_counter() - wall:.1f} s")


def recordings(
    runs: int, kind: str, repetition_time: float, n_scans: int, snr: float, seed: int = 0
) -> tuple[np.ndarray, list[BoldData]]:
    """Connections and data of runs of six regions, by the nonlinear Balloon model.

    Euler steps of a sixteenth of a scan (a 32nd of 2 s); haemodynamic constants differ between
    regions as their priors say. At rest activity fluctuates by white noise; in a task, two inputs
    are on and off for 5 to 20 s and drive two regions each.
    """
    rng = np.random.default_rng(seed)
    n, parts = 6, 16 if repetition_time <= 1 else 32
    step, pause = repetition_time / parts, 20
    A = np.stack([network(n, rng, 0.3) for _ in range(runs)])
    inputs, C = np.zeros((runs, (n_scans + pause) * parts, 2)), np.zeros((runs, n, 2))
    if kind == "task":
        for run in range(runs):
            for j in range(2):
                ends = np.cumsum(rng.uniform(5, 20, 4 * n_scans) / step).astype(int)
                for on, off in zip(ends[::2], ends[1::2], strict=True):
                    inputs[run, on:off, j] = 1
                C[run, rng.choice(n, 2, replace=False), j] = rng.uniform(0.1, 0.3, 2)
    tau, decay = (m * np.exp(rng.normal(size=(runs, n)) / 16) for m in (2.0, 0.64))
    x, s, lf, lv, lq = np.zeros((5, runs, n))
    bold = []
    for t in range(inputs.shape[1]):
        f, v, q = np.exp(np.maximum(lf, np.log(0.05))), np.exp(lv), np.exp(lq)
        if t % parts == 0:
            signal = 4.3 * 40.3 * 0.04 * 0.4 * (1 - q) + 25 * 0.4 * 0.04 * (1 - q / v)
            bold.append(4 * signal)
        out, extracted = v ** (1 / 0.32), (1 - 0.6 ** (1 / f)) / 0.4
        noise = 0.05 * rng.normal(size=x.shape) * np.sqrt(step) * (kind == "rest")
        change = np.einsum("rij,rj->ri", A, x) + np.einsum("rij,rj->ri", C, inputs[:, t])
        x, s, lf, lv, lq = (
            x + step * change + noise,
            s + step * (x - decay * s - 0.32 * (f - 1)),
            lf + step * s / f,
            lv + step * (f - out) / (tau * v),
            lq + step * (f * extracted - out * q / v) / (tau * q),
        )
    signals = np.moveaxis(np.array(bold), 0, 1)
    first = pause if kind == "rest" else 0
    signals = signals[:, first : first + n_scans]
    # The same noise in all regions, so that those that nothing drives are not free of it.
    level = signals.std(axis=(1, 2), keepdims=True) / snr
    signals = signals + level * rng.normal(size=signals.shape)
    given = {} if kind == "rest" else {"input_dt": step}
    data = [
        BoldData(
            signal,
            repetition_time,
            unit="percent",
            slice_delays=np.zeros(n),
            inputs=None if kind == "rest" else u[: n_scans * parts],
            **given,
        )
        for signal, u in zip(signals, inputs, strict=True)
    ]
    return A, data


def coverage(runs: int) -> None:
    """Errors and 90 % intervals of connections of simulated runs, by kind of model."""
    print("kind TR scans SNR | model | rmse | covered by 90 % | self-connection | r | share")
    between = ~np.eye(6, dtype=bool)
    for kind in ("rest", "task"):
        for repetition_time, n_scans in ((0.72, 600), (2.0, 300)):
            for snr in (1.0, 3.0, 10.0):
                A, data = recordings(runs, kind, repetition_time, n_scans, snr)
                C = None if kind == "rest" else np.ones((6, 2))
                models = {"default": {}, "as_tapas": {"as_tapas": True}}
                for name, options in models.items():
                    model = RegressionDCM(np.ones((6, 6)), C, **options)
                    if name == "as_tapas" and kind == "task" and repetition_time > 1:
                        # The toolbox has bins of a sixteenth of a scan.
                        data = [
                            each.replace(inputs=each.inputs[::2], input_dt=repetition_time / 16)
                            for each in data
                        ]
                    fits = [bayesdcm.fit(model, each, progress=False) for each in data]
                    mean = np.array([fit.mean["A"] for fit in fits])
                    sd = np.array([fit.sd["A"] for fit in fits])
                    error = (mean - A)[:, between]
                    inside = np.abs(error) < 1.645 * sd[:, between]
                    r = [
                        np.corrcoef(m[between], a[between])[0, 1]
                        for m, a in zip(mean, A, strict=True)
                    ]
                    own = np.diagonal(mean, axis1=1, axis2=2).mean()
                    share = "" if options else model.constants(data[0])["measurement_noise"]
                    print(
                        f"{kind} {repetition_time} {n_scans} {snr:g} | {name} | "
                        f"{np.sqrt((error**2).mean()):.3f} | {inside.mean():.2f} | {own:.2f} | "
                        f"{np.mean(r):.2f} | {share}",
                        flush=True,
                    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    what, *rest = sys.argv[1:] or ["speed"]
    if what == "speed":
        speed(int(rest[0]) if rest else 200, "sparse" in rest)
    elif what == "cohort":
        cohort(int(rest[0]), int(rest[1]), rest[2])
    elif what == "coverage":
        coverage(int(rest[0]) if rest else 20)
