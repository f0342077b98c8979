"""The fits of a group: a sequence that reads each fit when it is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, overload
from weakref import WeakValueDictionary

import numpy as np
import pandas as pd

from bayesdcm.compare.comparable import check_subject
from bayesdcm.group.members import aligned_datasets, name_datasets, name_models
from bayesdcm.group.store import Key, Store, read_index
from bayesdcm.infer.findings import listed
from bayesdcm.infer.loading import bound_again
from bayesdcm.infer.problem import make_problem
from bayesdcm.infer.progress import Progress
from bayesdcm.infer.results import Fit


class GroupFit(Sequence[Fit]):
    """Fits of several subjects, and of several models; made by `fit_group` and `load_group`.

    A sequence of those fits that there are: ``len(group)``, ``group[0]``, ``for fit in group``;
    subjects in the order given, model after model. ``group["sub-01"]`` is the fit of a subject;
    with several models, ``group["full"]`` is the group of fits of one model. Fits that are on disk
    are read when they are asked for, and forgotten when nobody holds them.

    Parameters
    ----------
    keys : sequence of (str, str)
        Model and subject of each fit.
    load : callable
        Gives the fit of a model and subject.
    reasons : mapping
        Why there is no fit, by model and subject.
    """

    def __init__(
        self, keys: Sequence[Key], load: Callable[[Key], Fit], reasons: Mapping[Key, str]
    ) -> None:
        self._keys = list(keys)
        self._load = load
        self._reasons = dict(reasons)
        self._loaded: WeakValueDictionary[Key, Fit] = WeakValueDictionary()

    @property
    def models(self) -> list[str]:
        """Names of the models."""
        return list(dict.fromkeys(model for model, _ in [*self._keys, *self._reasons]))

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects that have a fit; of each fit where there is one model."""
        return list(dict.fromkeys(subject for _, subject in self._keys))

    @property
    def failures(self) -> pd.DataFrame:
        """Fits that failed: ``model``, ``subject`` and ``reason``, one row each."""
        rows = [(*key, reason) for key, reason in self._reasons.items()]
        return pd.DataFrame(rows, columns=["model", "subject", "reason"])

    def __repr__(self) -> str:
        fits, subjects = (
            f"{n} {word}{'s' * (n != 1)}"
            for n, word in ((len(self), "fit"), (len(self.subjects), "subject"))
        )
        models = f", models {', '.join(self.models)}" if len(self.models) > 1 else ""
        failed = f"; {len(self._reasons)} failed" if self._reasons else ""
        return f"GroupFit({fits} of {subjects}{models}{failed})"

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Fit]:
        return (self._get(key) for key in self._keys)

    @overload
    def __getitem__(self, index: int) -> Fit: ...
    @overload
    def __getitem__(self, index: slice) -> GroupFit: ...
    @overload
    def __getitem__(self, index: str) -> Fit | GroupFit: ...

    def __getitem__(self, index: int | slice | str) -> Fit | GroupFit:
        if isinstance(index, str):
            return self._named(index)
        if isinstance(index, slice):
            return GroupFit(self._keys[index], self._get, {})
        return self._get(self._keys[index])

    def _named(self, name: str) -> Fit | GroupFit:
        models = self.models
        if len(models) > 1:
            if name not in models:
                raise KeyError(f"{name!r} is none of the models {', '.join(map(repr, models))}")
            keys = [key for key in self._keys if key[0] == name]
            reasons = {key: why for key, why in self._reasons.items() if key[0] == name}
            return GroupFit(keys, self._get, reasons)
        keys = [key for key in self._keys if key[1] == name]
        if not keys:
            failed = [why for (_, subject), why in self._reasons.items() if subject == name]
            raise KeyError(
                f"the fit of {name!r} failed: {failed[0]}" if failed else f"no subject {name!r}"
            )
        return self._get(keys[0])

    def _get(self, key: Key) -> Fit:
        fit = self._loaded.get(key)
        if fit is None:
            fit = self._load(key)
            self._loaded[key] = fit
        return fit

    # Over all fits

    def evidence(self) -> pd.DataFrame:
        """Log-evidences in nats, subjects in rows and models in columns; NaN where none is known.

        Returns
        -------
        pandas.DataFrame
            For `bayesdcm.select_models`, once rows with NaN are dropped.

        Raises
        ------
        ValueError
            If models of a subject are not of the same data, with the same confounds and scaling.
        """
        table = pd.DataFrame(np.nan, index=self.subjects, columns=self.models)
        for subject in self.subjects:
            models = [model for model, name in self._keys if name == subject]
            fits = {model: self._get((model, subject)) for model in models}
            check_subject(subject, fits)
            for model, fit in fits.items():
                if fit.log_evidence is not None:
                    table.loc[subject, model] = fit.log_evidence
        table.index.name, table.columns.name = "subject", "model"
        return table

    def summary(self) -> pd.DataFrame:
        """Posterior of every free parameter of every fit.

        Returns
        -------
        pandas.DataFrame
            The rows of each ``fit.summary()``, indexed by subject and parameter (and by model
            first, where there are several).
        """
        several = len(self.models) > 1
        parts = {
            (key if several else key[1:]): fit.summary()
            for key, fit in zip(self._keys, self, strict=True)
        }
        names = ["model", "subject", "parameter"] if several else ["subject", "parameter"]
        return pd.concat(parts, names=names)

    def diagnose(self, progress: bool = True) -> GroupDiagnosis:
        """What is wrong with the fits, in words.

        Parameters
        ----------
        progress : bool
            Whether to show progress: predictions of every fit are drawn first.

        Returns
        -------
        GroupDiagnosis
            Prints as sentences; ``table`` has one row a fit.
        """
        problems, rows = {}, []
        with Progress("Diagnosis", len(self), "fit", progress) as shown:
            for key, fit in zip(self._keys, self, strict=True):
                diagnosis = fit.diagnose()
                problems[key] = list(diagnosis.problems)
                rows.append(_row(key, fit, diagnosis))
                shown.advance(1)
        table = pd.DataFrame(rows).set_index(["model", "subject"])
        if len(self.models) == 1:
            table = table.droplevel("model")
        return GroupDiagnosis(problems, dict(self._reasons), table)

    def save(self, folder: str | Path) -> Path:
        """Write all fits to a folder, from which `load_group` reads them.

        Parameters
        ----------
        folder : path-like
            Made if it does not exist.

        Returns
        -------
        pathlib.Path
            The folder.

        Raises
        ------
        ValueError
            If another run is writing there.
        """
        store = Store(folder, self.models)
        with store.opened({"subjects": self.subjects, "models": self.models}):
            for key, fit in zip(self._keys, self, strict=True):
                store.write(key, fit)
            for key, reason in self._reasons.items():
                store.write_failure(key, reason)
        return store.folder


class GroupDiagnosis:
    """What is wrong with the fits of a group; made by `GroupFit.diagnose`.

    It prints each kind of problem once: how many fits have it, which, and what one of them says.

    Parameters
    ----------
    problems : mapping
        Sentences by model and subject.
    reasons : mapping
        Why there is no fit, by model and subject.
    table : pandas.DataFrame
        One row a fit: ``converged``, ``problems`` (their number), ``explained_variance`` (least
        of all regions or channels), and ``pareto_k`` or ``r_hat`` with ``ess``.
    """

    def __init__(
        self, problems: Mapping[Key, list[str]], reasons: Mapping[Key, str], table: pd.DataFrame
    ) -> None:
        several = len({model for model, _ in [*problems, *reasons]}) > 1

        def name(key: Key) -> str:
            return f"{key[1]} ({key[0]})" if several else key[1]

        self.problems = {name(key): sentences for key, sentences in problems.items() if sentences}
        self.failures = {name(key): reason for key, reason in reasons.items()}
        self.table = table
        # Of every model, how many fits there are and what is wrong with which.
        self._sizes = Counter(model for model, _ in problems)
        self._kinds: dict[tuple[str, str], dict[str, str]] = {}
        for key, sentences in problems.items():
            for text in sentences:
                kind = (key[0], getattr(text, "kind", text))
                self._kinds.setdefault(kind, {}).setdefault(name(key), text)

    def sentences(self) -> list[str]:
        """What is wrong, a few sentences a model and kind of problem, the most frequent first."""
        lines = []
        for (model, kind), texts in sorted(self._kinds.items(), key=lambda item: -len(item[1])):
            first, text = next(iter(texts.items()))
            n = self._sizes[model]
            kind = kind[:1].upper() + kind[1:]
            line = f"{kind} in {len(texts)} of {n} fits ({listed(list(texts))})."
            if len(texts) > 1:
                line += f" Of {first}:"
            lines.append(f"{line} {text}")
        reasons: dict[str, list[str]] = {}
        for name, why in self.failures.items():
            reasons.setdefault(why, []).append(name)
        for why, names in reasons.items():
            lines.append(f"{listed(names)} could not be fitted: {why}")
        return lines

    def __repr__(self) -> str:
        n = len(self.table)
        head = f"{n - len(self.problems)} of {n} fits have no problem."
        return "\n".join([head, *(f"- {line}" for line in self.sentences())])


def _row(key: Key, fit: Fit, diagnosis: Any) -> dict[str, Any]:
    facts = diagnosis.facts
    row: dict[str, Any] = {
        "model": key[0],
        "subject": key[1],
        "converged": fit.status.get("converged", True),
        "problems": len(diagnosis.problems),
    }
    if "explained_variance" in facts:
        row["explained_variance"] = float(np.min(facts["explained_variance"]))
    for name in ("pareto_k", "r_hat", "ess_bulk"):
        if name in facts:
            row[name] = float(facts[name])
    return row


def load_group(folder: str | Path, models: Any = None, datasets: Any = None) -> GroupFit:
    """Read the fits that `fit_group` wrote.

    Parameters
    ----------
    folder : path-like
        ``out`` of `fit_group`.
    models, datasets : optional
        As given to `fit_group`. Files hold models of this package and their data; of programs of
        one's own, what is predicted and drawn needs them (``fit.idata``, ``fit.diagnose()``).

    Returns
    -------
    GroupFit
        Reads each fit when it is asked for.

    Raises
    ------
    FileNotFoundError
        If the folder holds no group.
    ValueError
        If only one of models and datasets is given, or they are not those of the group; when a
        fit is asked for, if its data are others.

    Examples
    --------
    >>> import bayesdcm
    >>> bayesdcm.load_group("missing")
    Traceback (most recent call last):
    ...
    FileNotFoundError: folder: 'missing' holds no group of fits (no group.json); ...
    """
    index = read_index(folder)
    names, subjects = index["models"], index["subjects"]
    if (models is None) != (datasets is None):
        raise ValueError("models and datasets must be given together, or not at all")
    store, known = Store(folder, names), {}
    if models is not None:
        known, data = name_models(models), name_datasets(datasets)
        for what, given, stored in (("models", known, names), ("datasets", data, subjects)):
            if sorted(given) != sorted(stored):
                raise ValueError(
                    f"{what} must be those of the group, {', '.join(stored)}, "
                    f"got {', '.join(given)}"
                )

        # The order of the group counts: models take places along axes from its first data set.
        data = aligned_datasets(known.values(), {name: data[name] for name in subjects})

    def load(key: Key) -> Fit:
        written = store.read(key)
        if not known:
            return written
        # Data sets of a sequence have numbers for names: those of two people may be exchanged.
        model, subject = key
        problem = make_problem(known[model], data[subject], shared=True)
        return bound_again(written, problem, store.path(key))

    pairs = list(product(names, subjects))
    keys = [pair for pair in pairs if pair in store]
    reasons = {pair: store.reason(pair) for pair in pairs if pair not in keys}
    return GroupFit(keys, load, {pair: why for pair, why in reasons.items() if why is not None})
