"""Whole brains forward: steps per second, gradients, a second call, streaming, batches.

Wilson-Cowan nodes with noise and delays of random tracts (30 to 150 mm at 10 m/s), all regions
connected, steps of 0.1 ms, double precision. With ``--peers PYTHON``, an interpreter that has
tvboptim and neurolib installed, these simulate networks of the same size with delays of the same
range in turn with this package; each number is the best of several rounds.

    python ci/benchmarks/network.py
    python ci/benchmarks/network.py --peers /path/to/python --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import textwrap
import time
from typing import Any

import numpy as np

STEP = 1e-4
SPEED = 10.0
STEPS = {8: 40_000, 80: 8_000, 400: 1_000}


def tracts(regions: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and lengths, mm."""
    rng = np.random.default_rng(0)
    weights = rng.random((regions, regions)) / regions
    np.fill_diagonal(weights, 0)
    return weights, rng.uniform(30.0, 150.0, (regions, regions))


def brain(regions: int) -> Any:
    import bayesdcm
    from bayesdcm.neural import OrnsteinUhlenbeck

    connectome = bayesdcm.Connectome(*tracts(regions))
    noise = OrnsteinUhlenbeck(sd=0.1, tau=0.02)
    return bayesdcm.NetworkModel(
        bayesdcm.neural.WilsonCowan(), connectome, coupled=("E", "I_E"), speed=SPEED, noise=noise
    )


def costs(function: Any, rounds: int) -> tuple[float, float, float]:
    """First call, then the best CPU and wall seconds of a call."""
    begun = time.perf_counter()
    function(0)
    first = time.perf_counter() - begun
    cpu, wall = [], []
    for number in range(rounds):
        a, b = time.process_time(), time.perf_counter()
        function(number + 1)
        cpu.append(time.process_time() - a)
        wall.append(time.perf_counter() - b)
    return first, min(cpu), min(wall)


def steps_per_second(regions: int, gradient: bool, rounds: int) -> dict[str, float]:
    import jax
    import jax.numpy as jnp

    model, steps = brain(regions), STEPS[regions]

    def series(scaling: Any, seed: Any) -> Any:
        key = jax.random.key(seed)
        return model.run({"strength": scaling}, key, steps * STEP, STEP, record=("E",))["E"]

    def loss(scaling: Any, seed: Any) -> Any:
        return jnp.mean(series(scaling, seed) ** 2)

    run = jax.jit(jax.grad(loss) if gradient else series)
    zero = jnp.zeros(())
    first, cpu, wall = costs(lambda seed: run(zero, seed).block_until_ready(), rounds)
    return {"first": first, "cpu": steps / cpu, "wall": steps / wall}


PEERS = {
    "tvboptim": """
        import time, jax, jax.numpy as jnp, numpy as np, equinox
        jax.config.update("jax_enable_x64", True)
        import tvboptim.experimental.network_dynamics as tvb
        from tvboptim.experimental.network_dynamics import coupling, graph, noise, solvers
        from tvboptim.experimental.network_dynamics.dynamics.tvb import WilsonCowan
        link = coupling.DelayedLinearCoupling(incoming_states="E", G=0.5, buffer_strategy=strategy)
        net = tvb.Network(
            WilsonCowan(), {"delayed": link},
            graph.DenseDelayGraph(jnp.asarray(W), jnp.asarray(L) / speed),
            noise=noise.AdditiveNoise(sigma=0.01, apply_to="E"),
        )
        simulate, config = tvb.prepare(net, solvers.Heun(), t0=0.0, t1=steps * 0.1, dt=0.1)
        def series(G):
            at = lambda c: c.coupling.delayed.G
            return simulate(equinox.tree_at(at, config, G)).ys
        loss = lambda G: jnp.mean(series(G) ** 2)
        compiled = jax.jit(jax.grad(loss) if gradient else series)
        G = jnp.asarray(config.coupling.delayed.G, float)
        function = lambda seed: compiled(G).block_until_ready()
    """,
    "neurolib": """
        from neurolib.models.wc import WCModel
        model = WCModel(Cmat=W, Dmat=L)
        model.params.update(duration=steps * 0.1, dt=0.1, signalV=speed, sigma_ou=0.01, seed=0)
        function = lambda seed: model.run()
    """,
}


def peer(python: str, name: str, regions: int, gradient: bool, rounds: int, **given: Any) -> Any:
    """Steps per second of another package, in its own interpreter."""
    weights, lengths = tracts(regions)
    lines = [
        "import json, sys, time",
        "import numpy as np",
        f"steps, speed, gradient, rounds = {STEPS[regions]}, {SPEED}, {gradient}, {rounds}",
        *(f"{key} = {value!r}" for key, value in given.items()),
        "W, L = np.asarray(json.loads(sys.stdin.readline()))",
        textwrap.dedent(PEERS[name]),
        "first = time.perf_counter(); function(0); first = time.perf_counter() - first",
        "cpu, wall = [], []",
        "for number in range(rounds):",
        "    a, b = time.process_time(), time.perf_counter(); function(number + 1)",
        "    cpu.append(time.process_time() - a); wall.append(time.perf_counter() - b)",
        "print(json.dumps(dict(first=first, cpu=steps / min(cpu), wall=steps / min(wall))))",
    ]
    # As their users run them: without the settings of this package.
    others = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_", "JAX_"))}
    done = subprocess.run(
        [python, "-c", "\n".join(lines)],
        env=others,
        input=json.dumps([weights.tolist(), lengths.tolist()]) + "\n",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def second_call(rounds: int) -> dict[str, float]:
    """Rest: 8 regions, 4 s after 0.3 s, 16 sensors, functional connectivity; new numbers."""
    model, rng = brain(8), np.random.default_rng(0)
    field = rng.normal(size=(16, 8))

    def function(seed: int) -> Any:
        parameters = model.parameters(strength=1.0 + 0.1 * seed)
        rest = model.simulate(4.0, STEP, transient=0.3, seed=seed, parameters=parameters)
        sensors = rest.E.values @ field.T
        return sensors, np.corrcoef(rest.E.values.T)

    first, cpu, wall = costs(function, rounds)
    return {"first": first, "cpu": cpu, "wall": wall}


def streaming(rounds: int) -> dict[str, float]:
    """84 regions, 120,000 steps: time with functional connectivity against without, memory."""
    from bayesdcm.observe import StreamedCorrelation

    model = brain(84)
    duration = 120_000 * STEP
    kept = {"observers": (StreamedCorrelation(),)}
    model.simulate(duration, seed=0, **kept)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, with_cpu, _ = costs(lambda s: model.simulate(duration, seed=s, **kept), rounds)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    _, without_cpu, _ = costs(lambda s: model.simulate(duration, seed=s, record=()), rounds)
    return {"ratio of CPU": with_cpu / without_cpu, "grown MB": grown / 1024}


def first_streaming() -> dict[str, float]:
    """Memory of a first run, compilation included, beyond a process that has run another."""
    from bayesdcm.observe import StreamedCorrelation

    model = brain(84)
    model.simulate(0.4, observers=(StreamedCorrelation(),))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    model.simulate(12.0, observers=(StreamedCorrelation(),))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"cpu": time.process_time() - begun, "grown MB": grown / 1024}


def batch(simulations: int, memory: float) -> dict[str, float]:
    """Many simulations of 8 regions, 1 s, with functional connectivity."""
    from bayesdcm.models import network_batch
    from bayesdcm.observe import StreamedCorrelation

    model = brain(8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, wall = time.process_time(), time.perf_counter()
    options = {"observers": (StreamedCorrelation(),), "memory": memory}
    model.simulate(1.0, STEP, seed=range(simulations), **options)
    return {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2,
        "grown GB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024**2,
        "programs": network_batch._stretch._cache_size(),
    }


def child(arguments: list[str]) -> Any:
    """One measurement in a process of its own."""
    name, *rest = arguments
    numbers = [json.loads(each) for each in rest]
    measurements = {
        "steps": steps_per_second,
        "second": second_call,
        "streaming": streaming,
        "first streaming": first_streaming,
        "batch": batch,
    }
    return measurements[name](*numbers)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", help="Python that has tvboptim and neurolib")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--regions", type=int, nargs="*", default=[8, 80, 400])
    parser.add_argument("--only", default="")
    parser.add_argument("--child", nargs="*")
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child)))
        return
    from measure import in_fresh_process, machine, table

    print(machine())
    rows = []
    cases = [(n, False) for n in options.regions] + [(n, True) for n in options.regions if n > 8]
    for regions, gradient in cases if options.only in ("", "steps") else ():
        arguments = ["steps", *map(json.dumps, (regions, gradient, options.rounds))]
        ways = {"bayesdcm": lambda a=arguments: in_fresh_process(__file__, a)}
        if options.peers:
            for strategy in ("roll", "circular"):
                ways[f"tvboptim ({strategy})"] = lambda s=strategy, n=regions, g=gradient: peer(
                    options.peers, "tvboptim", n, g, options.rounds, strategy=s
                )
            if not gradient:
                ways["neurolib"] = lambda n=regions: peer(
                    options.peers, "neurolib", n, False, options.rounds
                )
        for _ in range(2):
            for name, way in ways.items():
                row = way()
                key = {"regions": regions, "gradient": str(gradient), "package": name}
                rows.append(key | {f"{k}": v for k, v in row.items()})
    best = {}
    for row in rows:
        key = (row["regions"], row["gradient"], row["package"])
        kept = best.setdefault(key, dict(row))
        kept |= {name: max(kept[name], row[name]) for name in ("cpu", "wall")}
        kept["first"] = min(kept["first"], row["first"])
    if best:
        print("Steps per second of CPU and of wall time; first call in s\n")
        print(table(list(best.values())))
    for name, arguments in (
        ("second", [options.rounds]),
        ("streaming", [3]),
        ("first streaming", []),
        ("batch", [1000, 1e9]),
    ):
        if options.only in ("", name):
            result = in_fresh_process(__file__, [name, *map(json.dumps, arguments)])
            print(f"\n{name}\n\n{table([result])}")


if __name__ == "__main__":
    sys.exit(main())
