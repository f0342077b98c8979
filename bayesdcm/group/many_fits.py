"""Many fits: all subjects and models, in batches that share compiled programs.

On a GPU the subjects of a batch are computed side by side by one program (`jax.vmap`). On a CPU
each core takes one at a time, with the program of a single fit, as arrays of many subjects do not
fit the caches of a core.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from tqdm.auto import tqdm

from bayesdcm.group.batches import alike, own_arrays, shape_of
from bayesdcm.group.fingerprint import fingerprint
from bayesdcm.group.group_fit import GroupFit, Key
from bayesdcm.group.members import aligned_datasets, name_datasets, name_models
from bayesdcm.group.runners import Batch, Outcome, batches_locally, batches_on
from bayesdcm.group.store import Store
from bayesdcm.infer.fitting import check_call, chosen_method
from bayesdcm.infer.inversion import best_optimum, laplace_settings
from bayesdcm.infer.method import Method
from bayesdcm.infer.problem import Problem, make_problem
from bayesdcm.infer.results import Fit
from bayesdcm.infer.threads import single_threaded_linear_algebra
from bayesdcm.infer.variational_laplace import Laplace, laplace_starts, searches

logger = logging.getLogger("bayesdcm")

SIDE_BY_SIDE = ("auto", "threads", "vectorized")


@dataclass(frozen=True, eq=False)
class _Plan:
    """What `fit_group` was asked for.

    Attributes
    ----------
    models, datasets : dict
        By name.
    method : Method
        With its options.
    seed : int
        As given.
    """

    models: Mapping[str, Any]
    datasets: Mapping[str, Any]
    method: Method
    seed: int

    @property
    def keys(self) -> list[Key]:
        """Model and subject of all fits."""
        return [(model, subject) for model in self.models for subject in self.datasets]

    def seed_of(self, subject: str) -> int:
        """Seed of a subject: chance must not be the same in all of them."""
        return int(
            np.random.SeedSequence([self.seed, crc32(subject.encode())]).generate_state(1)[0]
        )

    def fingerprint(self, key: Key) -> str:
        """Of a fit."""
        model, subject = key
        given = (self.models[model], self.datasets[subject], self.method.name)
        return fingerprint(*given, self.seed_of(subject), self.method.options())

    def finish(self, fit: Fit, subject: str, key: str) -> Fit:
        """Note how a fit was made."""
        fit.status |= {
            "seed": self.seed_of(subject),
            "options": self.method.options(),
            "fingerprint": key,
        }
        return fit


@single_threaded_linear_algebra()
def fit_group(
    models: Any,
    datasets: Any,
    method: str | Method | None = None,
    *,
    out: str | Path | None = None,
    client: Any = None,
    seed: int = 0,
    progress: bool = True,
    side_by_side: str = "auto",
    **options: Any,
) -> GroupFit:
    """Fit one or several models to the data of many subjects.

    Parameters
    ----------
    models : model, program, or mapping of str to model
        One model, or several by name; all are fitted to all data sets.
    datasets : mapping of str to data, or sequence of data
        Data by subject; subjects of a sequence are numbered from 1.
    method : str or Method, optional
        As in `bayesdcm.fit`.
    out : path-like, optional
        Folder in which every fit is written when it is done. A run that was stopped, or killed,
        and is started again with the same arguments does only what is missing there, and gives
        the same numbers. None: fits are kept in memory.
    client : dask.distributed.Client, optional
        Cluster whose workers do the fits; None: this process does them.
    seed : int
        Seed of everything random. Each subject has a seed of its own that follows from this one
        and the subject's name: ``fit.status["seed"]``.
    progress : bool
        Whether to show progress, and the time that is left.
    side_by_side : {"auto", "threads", "vectorized"}
        How subjects are computed at the same time by variational Laplace: one on each core, or
        several in one array program. ``"auto"``: programs on a GPU, threads on a CPU.
    **options
        Of the method, as in `bayesdcm.fit`.

    Returns
    -------
    GroupFit
        Sequence of fits. A subject that could not be fitted is left out, with the reason in
        ``failures``.

    Raises
    ------
    TypeError
        If models, datasets or options have the wrong type.
    ValueError
        If the method or an option is not known, `out` holds fits of other data, models or options,
        no subject could be fitted, or names of regions, inputs, channels, conditions or effects
        are not the same in all data sets.

    Warns
    -----
    UserWarning
        If they come in another order than in the first data set, and are put in its order.

    Examples
    --------
    >>> import numpyro, numpyro.distributions as dist, bayesdcm
    >>> def program(data):
    ...     mean = numpyro.sample("mean", dist.Normal(0, 10))
    ...     numpyro.sample("y", bayesdcm.observe.gaussian(mean + 0 * data, 0.0), obs=data)
    >>> data = {"ann": np.array([1.0, 3.0]), "ben": np.array([2.0, 6.0])}
    >>> group = bayesdcm.fit_group(program, data, progress=False)
    >>> [round(float(fit.mean["mean"]), 2) for fit in group]
    [1.99, 3.98]
    """
    check_call(seed, progress)
    if side_by_side not in SIDE_BY_SIDE:
        raise ValueError(
            f"side_by_side must be one of {', '.join(map(repr, SIDE_BY_SIDE))}, "
            f"got {side_by_side!r}"
        )
    if client is not None and not hasattr(client, "submit"):
        raise TypeError(f"client must be a dask.distributed.Client, got {type(client).__name__}")
    named = name_models(models)
    data = aligned_datasets(named.values(), name_datasets(datasets))
    asked = {name: chosen_method(model, method, options) for name, model in named.items()}
    plan = _Plan(named, data, next(iter(asked.values())), int(seed))
    store = None if out is None else Store(out, list(plan.models))
    run = partial(batches_on, client) if client is not None else batches_locally
    run = partial(run, side_by_side=side_by_side)
    with ExitStack() as stack:
        if store is not None:
            stack.enter_context(store.locked())
            store.prepare(
                {
                    "subjects": list(plan.datasets),
                    "models": list(plan.models),
                    "method": plan.method.name,
                    "seed": plan.seed,
                    "options": plan.method.options(),
                }
            )
        return _run(plan, store, run, bool(progress))


def _run(
    plan: _Plan, store: Store | None, run: Callable[..., Iterator[Outcome]], progress: bool
) -> GroupFit:
    prints = {key: plan.fingerprint(key) for key in plan.keys}
    done = _stored(store, prints)
    kept: dict[Key, Fit] = {}
    reasons: dict[Key, str] = {}
    problems: dict[Key, Problem] = {}
    for key in plan.keys:
        model, subject = key
        try:
            problems[key] = make_problem(plan.models[model], plan.datasets[subject], shared=True)
            plan.method.require(problems[key])
        except Exception as error:
            _failed(store, reasons, key, error, prints[key])

    def keep(key: Key, fit: Fit) -> None:
        plan.finish(fit, key[1], prints[key])
        if store is None:
            kept[key] = fit
        else:
            store.write(*key, fit, prints[key])

    wanted = [key for key in problems if key not in done]
    bar = tqdm(
        total=len(plan.keys),
        initial=len(plan.keys) - len(wanted),
        desc="fit_group",
        unit="fit",
        disable=not progress,
        leave=False,
    )
    with bar, _interruptible(bar):
        for key, found in run(_batches(plan, problems, wanted)):
            try:
                if isinstance(found, Exception):
                    raise found
                keep(key, _fit_from(plan, problems[key], key[1], found))
                done.add(key)
            except Exception as error:
                _failed(store, reasons, key, error, prints[key])
            bar.update()
    if not done and reasons:
        raise ValueError(f"none of {len(plan.keys)} fits succeeded: {next(iter(reasons.values()))}")

    def load(model: str, subject: str) -> Fit:
        key = (model, subject)
        return kept[key] if store is None else store.read(*key, problems[key])

    keys = [key for key in plan.keys if key in done]
    return GroupFit(keys, load, {key: reasons[key] for key in plan.keys if key in reasons})


@contextmanager
def _interruptible(bar: tqdm) -> Iterator[None]:
    """Keep what is done where a run is stopped by Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        if not bar.n:
            raise
        logger.warning("fit_group was stopped: %d of %d fits are done", bar.n, bar.total)


def _stored(store: Store | None, prints: Mapping[Key, str]) -> set[Key]:
    """Fits that are there; raises where one is of something else."""
    done = set()
    for key, wanted in prints.items():
        found = None if store is None else store.key(*key)
        if found is None:
            continue
        if found != wanted:
            raise ValueError(
                f"out: {str(store.path(*key))!r} was made from other data, another model, method, "
                "option or version; choose another folder, or delete the file to have it made again"
            )
        done.add(key)
    return done


def _failed(
    store: Store | None, reasons: dict[Key, str], key: Key, error: Exception, print_: str
) -> None:
    reasons[key] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    logger.warning("fit_group: %s could not be fitted: %s", key[1], reasons[key])
    logger.debug("traceback of the failure", exc_info=error)
    if store is not None:
        store.write_failure(*key, reasons[key], print_)


def _batches(plan: _Plan, problems: Mapping[Key, Problem], wanted: list[Key]) -> list[Batch]:
    """Fits that share a compiled program, in the order of the keys.

    All fits are arranged, and those that are not wanted are then left out: what a fit gives must
    not depend on which others there are still to do.
    """
    if not isinstance(plan.method, Laplace):
        return [
            Batch(
                [key],
                call=(
                    plan.models[key[0]],
                    plan.datasets[key[1]],
                    plan.method,
                    plan.seed_of(key[1]),
                ),
            )
            for key in wanted
        ]
    groups: dict[Any, list[Key]] = {}
    for key, problem in problems.items():
        shape = (problem.source, problem.sites, shape_of(problem.prepared))
        groups.setdefault(shape, []).append(key)
    missing = set(wanted)
    batches = []
    for (source, sites, _), keys in groups.items():
        prepared = alike([problems[key].prepared for key in keys])
        chosen = [i for i, key in enumerate(keys) if key in missing]
        if not chosen:
            continue
        settings = laplace_settings(sites, plan.method.max_iterations, plan.method.derivatives)
        given = plan.method.starts
        seeds = [plan.seed_of(keys[i][1]) for i in chosen]
        starts = [
            laplace_starts(problems[keys[i]], given, seed)
            for i, seed in zip(chosen, seeds, strict=True)
        ]
        batches.append(
            Batch(
                [keys[i] for i in chosen],
                static=(source, sites, settings),
                prepared=[prepared[i] for i in chosen],
                starts=starts,
                own=own_arrays(prepared),
                whole=len(keys),
                seeds=seeds if searches(source, given) else [],
            )
        )
    return batches


def _fit_from(plan: _Plan, problem: Problem, subject: str, found: Any) -> Fit:
    """The fit that a batch has found, bound to its problem."""
    if isinstance(plan.method, Laplace):
        optimum = best_optimum(found.optima) | {"search": found.record}
        found = plan.method.posterior(optimum, plan.seed_of(subject))
    return Fit(problem, found)
