"""All models fitted to the data of all subjects: `fit_group`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from bayesdcm.group.fingerprint import fingerprint
from bayesdcm.group.group_fit import GroupFit
from bayesdcm.group.members import aligned_datasets, name_datasets, name_models
from bayesdcm.group.store import Key, Memory, Store
from bayesdcm.infer.batches import Task, attempt
from bayesdcm.infer.fitting import check_call, chosen_method
from bayesdcm.infer.many import SIDE_BY_SIDE, fit_many
from bayesdcm.infer.method import Method, one_of
from bayesdcm.infer.problem import make_problem
from bayesdcm.infer.threads import single_threaded_linear_algebra


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
        several in one array program. ``"auto"``: threads on a CPU, a program on a GPU.
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
    one_of(*SIDE_BY_SIDE)("side_by_side", side_by_side)
    if client is not None and not hasattr(client, "submit"):
        raise TypeError(f"client must be a dask.distributed.Client, got {type(client).__name__}")
    named = name_models(models)
    data = aligned_datasets(named.values(), name_datasets(datasets))
    asked, *others = [chosen_method(model, method, options) for model in named.values()]
    if any(other.name != asked.name for other in others):
        names = ", ".join(dict.fromkeys(each.name for each in (asked, *others)))
        raise ValueError(
            f"models have different methods of their own ({names}); give method= for all of them"
        )
    seeds = {subject: _seed_of(subject, int(seed)) for subject in data}

    def task(key: Key) -> Task:
        name, subject = key
        problem = make_problem(named[name], data[subject], shared=True)
        asked.require(problem)
        return Task(problem, asked, seeds[subject], {"fingerprint": fingerprints[key]})

    fingerprints = {
        (name, subject): fingerprint(model, each, asked.name, seeds[subject], asked.options())
        for name, model in named.items()
        for subject, each in data.items()
    }
    store = Memory() if out is None else Store(out, list(named))
    index = {
        "subjects": list(data),
        "models": list(named),
        "method": asked.name,
        "seed": int(seed),
        "options": asked.options(),
    }
    with store.opened(index, fingerprints):
        tasks = {key: attempt(task, key) for key in fingerprints}
        reasons = fit_many(
            tasks, store, client=client, side_by_side=side_by_side, progress=bool(progress),
            title="fit_group",
        )  # fmt: skip
    done = [key for key in tasks if key in store and key not in reasons]
    if reasons and not done:
        raise ValueError(f"none of {len(tasks)} fits succeeded: {next(iter(reasons.values()))}")
    failed = {key: reasons[key] for key in tasks if key in reasons}
    return GroupFit(done, lambda key: store.read(key, tasks[key].problem), failed)


def _seed_of(subject: str, seed: int) -> int:
    """Seed of a subject: chance must not be the same in all of them."""
    return int(np.random.SeedSequence([seed, crc32(subject.encode())]).generate_state(1)[0])
