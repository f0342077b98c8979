"""Methods of inference: frozen objects whose fields are their options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import numpy as np

if TYPE_CHECKING:
    from bayesdcm.infer.batches import Batch
    from bayesdcm.infer.posterior import Posterior
    from bayesdcm.infer.problem import Problem

Check = Callable[[str, Any], None]


def integer_of_at_least(least: int) -> Check:
    """A check of integers; `kind` is what the shell command takes them for."""

    def check(name: str, value: Any) -> None:
        integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not (integer and value >= least):
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")

    check.kind = int  # type: ignore[attr-defined]
    return check


positive_integer = integer_of_at_least(1)
# Of draws: a single one has no spread.
several = integer_of_at_least(2)


def positive_number(name: str, value: Any) -> None:
    """Raise an error unless an option is a positive number."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not (number and 0 < value < float("inf")):
        raise ValueError(f"{name} must be a positive number, got {value!r}")


def probability(name: str, value: Any) -> None:
    """Raise an error unless an option is a number between 0 and 1."""
    positive_number(name, value)
    if not value < 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value!r}")


def switch(name: str, value: Any) -> None:
    """Raise an error unless an option is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def one_of(*choices: str) -> Check:
    """A check that an option is one of these names."""

    def check(name: str, value: Any) -> None:
        if not (isinstance(value, str) and value in choices):
            raise ValueError(
                f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}"
            )

    check.choices = choices  # type: ignore[attr-defined]
    return check


def option(
    default: Any, check: Check | None = None, *, words: str, shell: bool | Check = False
) -> Any:
    """A field of a `Method`, for the body of a subclass.

    `check(name, value)` raises where a value is not allowed (`positive_integer`, `several`,
    `positive_number`, `probability`, `switch`, `one_of`); where the default is None, None is taken,
    too. `words` say what it is, for the help of the shell command; `shell` whether the command has
    it, or what it takes there, where that is less.
    """
    taken = check if shell is True else shell
    return field(default=default, metadata={"check": check, "words": words, "shell": taken})


@dataclass(frozen=True, kw_only=True, eq=False)
class Method(ABC):
    """A method of inference; its fields are its options, each made by `option`.

    A subclass with a `name` is known by that name to `bayesdcm.fit` as soon as it is defined.

    Attributes
    ----------
    name : str
        As `bayesdcm.fit` takes it.
    title : str
        In words, for the middle of a sentence.
    citations : tuple of (str, str)
        What to cite: text and address.
    needs : {"density", "gaussian", "simulator"}
        What it asks of a program: a density that can be evaluated, Gaussian observations
        (`bayesdcm.observe.gaussian`), or only data that can be simulated.
    evidence : {"free_energy", "elbo", None}
        Kind of the log-evidence that it gives.
    exact : bool
        Whether its draws are chains from the posterior itself, rather than from an approximation.

    Raises
    ------
    TypeError, ValueError
        If an option has the wrong type or a value that is not allowed.

    Examples
    --------
    >>> from bayesdcm.infer import NUTS
    >>> NUTS(chains=2).options()
    {'chains': 2}
    """

    name: ClassVar[str]
    title: ClassVar[str]
    citations: ClassVar[tuple[tuple[str, str], ...]] = ()
    needs: ClassVar[str] = "density"
    evidence: ClassVar[str | None] = None
    exact: ClassVar[bool] = False

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        name = cls.__dict__.get("name")
        if name is None:
            return
        known = METHODS.get(name)
        if known and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"name {name!r} is already that of {known.__qualname__}")
        METHODS[name] = cls

    def __post_init__(self) -> None:
        for name, known in option_fields(type(self)).items():
            value, check = getattr(self, name), known.metadata["check"]
            if check is not None and not (value is None and known.default is None):
                check(name, value)

    @abstractmethod
    def run(self, problem: Problem, seed: int, progress: bool) -> Posterior:
        """Infer the posterior of a problem.

        Parameters
        ----------
        problem : Problem
            A program bound to data.
        seed : int
            Seed of everything random.
        progress : bool
            Whether to show progress of long work.

        Returns
        -------
        Posterior
            Over the flat, unconstrained vector of the program.
        """

    def batch_key(self, problem: Problem) -> Hashable | None:
        """What problems have in common that are run together; None: each is run for itself.

        Parameters
        ----------
        problem : Problem
            A program bound to data.
        """
        del problem

    def run_many(
        self, batch: Batch, side_by_side: str
    ) -> Iterator[tuple[Hashable, Posterior | Exception]]:
        """Infer the posteriors of a batch of problems, here one after the other.

        Parameters
        ----------
        batch : Batch
            Tasks of one `batch_key`.
        side_by_side : {"auto", "threads", "vectorized"}
            How they are computed at the same time, as in `bayesdcm.fit_group`.

        Yields
        ------
        tuple
            Key of a task, and its posterior or the exception, in the order in which they are done.
        """
        del side_by_side
        for key, task in zip(batch.keys, batch.tasks, strict=True):
            try:
                outcome = task.method.run(task.problem, task.seed, False)
            except Exception as error:
                outcome = error
            yield key, outcome

    @abstractmethod
    def check(self, fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
        """What `Fit.diagnose` says of this method's run.

        Parameters
        ----------
        fit : Fit
            Made by it.
        problems : list of str
            Problems are added to it by `bayesdcm.infer.findings.add`.
        facts : dict
            The numbers behind them are added to it.
        """

    @classmethod
    def is_usual_for(cls, model: Any) -> bool:
        """Whether `bayesdcm.fit` takes it where no method is given, by default not.

        Parameters
        ----------
        model : object
            Any model.
        """
        del model
        return False

    def require(self, problem: Problem) -> None:
        """Raise an error where a program does not have what the method needs.

        Parameters
        ----------
        problem : Problem
            A program bound to data.

        Raises
        ------
        ValueError
            With the site that is in the way.
        """
        if self.needs == "gaussian" and problem.sites.foreign:
            raise ValueError(
                f"method {self.name!r} needs Gaussian observations, but "
                f"{problem.sites.foreign[0]!r} is observed with another distribution; use "
                "bayesdcm.observe.gaussian, or method='nuts', and for a group bayesdcm.fit_group "
                "and bayesdcm.peb"
            )

    @property
    def evidence_title(self) -> str:
        """The log-evidence that it gives, in words."""
        return "free energy" if self.evidence == "free_energy" else "evidence lower bound"

    def options(self) -> dict[str, Any]:
        """Options that are not at their defaults, as JSON has them."""
        return {
            name: _plain(value)
            for name, known in option_fields(type(self)).items()
            if not _same(value := getattr(self, name), known.default)
        }


METHODS: dict[str, type[Method]] = {}


def option_fields(method: type[Method]) -> dict[str, Field]:
    """The options of a method by name."""
    return {known.name: known for known in fields(method)}


def as_method(method: Any, options: Mapping[str, Any]) -> Method:
    """A method from its name, or from one that is a method already, with further options.

    A ValueError where the method or an option is not known, or a value is not allowed.
    """
    if isinstance(method, Method):
        known, make = type(method), lambda **given: replace(method, **given)
    elif isinstance(method, str) and method in METHODS:
        known = make = METHODS[method]
    else:
        raise ValueError(
            f"method must be one of {', '.join(map(repr, METHODS))}, or a Method, got {method!r}"
        )
    taken = option_fields(known)
    for name in options:
        if name not in taken:
            raise ValueError(
                f"{name!r} is not an option of method {known.name!r}; it takes "
                f"{', '.join(sorted(taken))}"
            )
    return make(**options)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray | jax.Array | list | tuple):
        return np.asarray(value).tolist()
    return value


def _same(value: Any, default: Any) -> bool:
    alike = np.ndim(value) == 0 and type(value) is type(default)
    return value is default or (alike and bool(value == default))
