"""The result of a fit: what was inferred, how, and whether to trust it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.special import ndtr

from bayesdcm.infer import arviz_adapter
from bayesdcm.infer.block_covariance import BlockCovariance, variances
from bayesdcm.infer.density import AXES
from bayesdcm.infer.diagnosis import Diagnosis, diagnose
from bayesdcm.infer.divergence import kept_draws
from bayesdcm.infer.evaluation import predictive, prior_sample, site_values
from bayesdcm.infer.modelled_data import (
    ModelledData,
    data_in_results,
    in_data_units,
    is_restored,
    modelled_data,
)
from bayesdcm.infer.modes import posterior_modes
from bayesdcm.infer.network_check import NetworkCheck, check_with_network
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.prior_moments import moments_of_prior, prior_moments
from bayesdcm.infer.problem import FREE, Problem
from bayesdcm.infer.storage import save_fit
from bayesdcm.infer.tail_shape import TailShape, tail_shape
from bayesdcm.models.facts import Facts

PRIOR_DRAWS = 500
# By which a member of a hierarchy is predicted.
MEMBER_DRAWS = 250
# Quantile of the normal distribution at 95 %.
NORMAL_95 = 1.6448536269514722


class worked_out(cached_property):
    """A cached property of a fit, which a file may have given it."""

    def __get__(self, fit: Any, owner: Any = None) -> Any:
        """The value that is known, or else what the program gives."""
        if fit is not None and self.attrname in fit._known:
            return fit._known[self.attrname]
        return super().__get__(fit, owner)


class Fit:
    """Posterior of a model, with what is needed to judge and to use it.

    Made by `bayesdcm.fit` and `bayesdcm.load_fit`. Draws, predictions and diagnostics are
    worked out when first asked for.

    Parameters
    ----------
    problem : Problem, callable or None
        The program bound to data, or what makes it when it is first needed; None where it is not
        at hand.
    posterior : Posterior
        The posterior over the flat vector.
    known : mapping, optional
        What need not be worked out, by the name of the property.

    Attributes
    ----------
    method : str
        Name of the method.
    log_evidence : float or None
        Free energy in nats for variational Laplace, the evidence lower bound for SVI, None for
        NUTS.
    trace : dict of ndarray
        What the method did, per iteration.
    status : dict
        ``converged`` and other facts about the run.
    """

    def __init__(
        self,
        problem: Problem | Callable[[], Problem] | None,
        posterior: Posterior,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        self._given_problem = problem
        self._known = dict(known or {})
        self.posterior = posterior
        self.method = posterior.method.name
        self.log_evidence = posterior.log_evidence
        self.trace = dict(posterior.trace)
        self.status = dict(posterior.status)

    def __repr__(self) -> str:
        state = "converged" if self.status.get("converged", True) else "not converged"
        evidence = "" if self.log_evidence is None else f", log evidence {self.log_evidence:.2f}"
        return f"Fit(method={self.method!r}, {state}{evidence}; {self.description})"

    @property
    def is_bound(self) -> bool:
        """Whether model and data are at hand, which predictions and draws need."""
        return self._given_problem is not None

    @cached_property
    def problem(self) -> Problem:
        """The program bound to data.

        Raises
        ------
        ValueError
            If the fit was read from a file that cannot hold its program.
        """
        if self._given_problem is None:
            raise ValueError(
                "the fit was read from a file, which cannot hold a program of one's own; give it "
                "with its data: load_fit(path, model=program, data=data), or for a group "
                "load_group(folder, models, datasets)"
            )
        given = self._given_problem
        return given if isinstance(given, Problem) else given()

    @worked_out
    def description(self) -> str:
        """The model in one line."""
        return self.problem.description

    @worked_out
    def facts(self) -> Facts:
        """Kind, units, citations and words of the model."""
        return self.problem.facts

    @worked_out
    def labels(self) -> list[str]:
        """Labels of the free parameters, such as ``A[V5, V1]``."""
        return self.problem.flat_labels

    @worked_out
    def _precision_sites(self) -> list[str]:
        """Names of the sites that are log-precisions of the noise."""
        return self.problem.precision_sites

    @worked_out
    def _uncentred_sites(self) -> list[str]:
        """Names of the sites whose scales are parameters."""
        return self.problem.uncentred_sites

    @worked_out
    def _modelled_data(self) -> ModelledData:
        """What the likelihood is a density of."""
        return modelled_data(self.problem) if self.is_bound else data_in_results(self._groups)

    # Posterior

    @worked_out
    def _exact(self) -> bool:
        """Whether the posterior of all sampled sites is a Gaussian in their own coordinates."""
        return self.posterior.gaussian is not None and all(
            site.plain for site in self.problem.sites.sites
        )

    @worked_out
    def _prior_moments(self) -> tuple[NDArray, NDArray]:
        """Mean and covariance of the prior over the flat vector, where it is Gaussian."""
        return prior_moments(self.problem)

    @cached_property
    def _draws_by_site(self) -> dict[str, NDArray]:
        """Values of all sites, each (chains, draws, ...)."""
        return self._by_chain(site_values(self.problem, self.posterior.flat_sample))

    def _by_chain(self, values: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Arrays (all draws, ...) with axes of chains and draws."""
        shape = self.posterior.sample.shape[:2]
        return {name: array.reshape(*shape, *array.shape[1:]) for name, array in values.items()}

    @worked_out
    def _moments(self) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
        if self._exact:
            return self._moments_of(*self.posterior.gaussian)
        draws = {name: self._draws_by_site[name] for name in self._parameter_names()}
        if self.posterior.point is not None:
            return self._point_moments({name: values[0, 0] for name, values in draws.items()})
        mean = {name: values.mean(axis=(0, 1)) for name, values in draws.items()}
        return mean, {name: values.std(axis=(0, 1), ddof=1) for name, values in draws.items()}

    def _point_moments(
        self, values: dict[str, NDArray]
    ) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
        """Values of one point, and standard deviations: not known, but for constants."""
        free = {site.name: site for site in self.problem.sites.sites}
        sd = {name: np.full(np.shape(value), np.nan) for name, value in values.items()}
        for name in values:
            if name not in free:
                moved = self.posterior.point[None] + np.array([[0.0], [1.0]])
                pair = site_values(self.problem, moved)[name]
                sd[name] = np.where(pair[0] == pair[1], 0.0, np.nan)
        return values, sd

    @worked_out
    def _prior_by_site(self) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
        """Prior means and standard deviations as `mean` and `sd` have the posterior's.

        Exact where the prior is Gaussian or Laplace, those of ``idata.prior`` elsewhere.
        """
        exact = None
        for moments in (lambda: self._prior_moments, lambda: moments_of_prior(self.problem)):
            with suppress(ValueError):
                exact = moments()
                break
        if (
            exact is not None
            and np.isfinite(exact[0]).all()
            and np.isfinite(variances(exact[1])).all()
        ):
            return self._moments_of(*exact)
        draws = {name: np.asarray(self._groups["prior"][name]) for name in self.mean}
        mean = {name: values.mean((0, 1)) for name, values in draws.items()}
        return mean, {name: values.std((0, 1)) for name, values in draws.items()}

    @worked_out
    def _tail_shape(self) -> TailShape:
        return tail_shape(self)

    def _moments_of(
        self, centre: NDArray, covariance: NDArray | BlockCovariance
    ) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
        """Moments of sampled sites and of full arrays, which are affine in them.

        The distribution over the flat vector is normal with this centre and covariance.
        """
        if isinstance(covariance, BlockCovariance):
            return self._moments_entrywise(centre, covariance.diagonal())
        points = np.concatenate([centre[None], centre + np.eye(len(centre))])
        values = site_values(self.problem, points)
        mean, sd = {}, {}
        for name in self._parameter_names():
            at, shifted = values[name][0], values[name][1:]
            slopes = (shifted - at).reshape(len(centre), -1)
            # Most entries of the arrays of many regions are constants.
            free = slopes.any(0)
            variance = np.zeros(slopes.shape[1])
            variance[free] = ((covariance @ slopes[:, free]) * slopes[:, free]).sum(0)
            mean[name] = at
            sd[name] = np.sqrt(np.maximum(variance, 0)).reshape(np.shape(at))
        return mean, sd

    def _moments_entrywise(
        self, centre: NDArray, variance: NDArray
    ) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
        """`_moments_of` many parameters, each of them an entry of a full array, or several."""
        numbers = 1.0 + np.arange(len(centre))
        values = site_values(self.problem, np.stack([0 * centre, numbers, centre]))
        mean, sd = {}, {}
        for name in self._parameter_names():
            # 0 where an entry is constant.
            place = np.rint(values[name][1] - values[name][0]).astype(int)
            mean[name] = values[name][2]
            sd[name] = np.sqrt(np.append(0.0, variance))[place]
        return mean, sd

    def _parameter_names(self) -> list[str]:
        """Sampled sites, the full array in place of a vector of free entries."""
        return [site.name.removesuffix(FREE) for site in self.problem.sites.sites]

    @property
    def mean(self) -> dict[str, NDArray]:
        """Posterior means by site; full arrays (``A``, ``B``, ``C``) where some are constant."""
        return self._moments[0]

    @property
    def sd(self) -> dict[str, NDArray]:
        """Posterior standard deviations by site, zero for constants; NaN where a point is known."""
        return self._moments[1]

    @cached_property
    def _entries(self) -> NDArray:
        """Draws of all sampled entries, shape (chains, draws, entries)."""
        parts = [
            self._draws_by_site[site.name].reshape(*self.posterior.sample.shape[:2], -1)
            for site in self.problem.sites.sites
        ]
        return np.concatenate(parts, axis=-1)

    @worked_out
    def covariance(self) -> pd.DataFrame:
        """Posterior covariance of the free parameters, labelled; exact where it is Gaussian."""
        self.posterior.require_spread("covariance")
        labels = self.labels
        if self._exact:
            matrix = self.posterior.gaussian[1]
            if isinstance(matrix, BlockCovariance):
                matrix = matrix.dense()
        else:
            matrix = np.atleast_2d(np.cov(self._entries.reshape(-1, len(labels)), rowvar=False))
        return pd.DataFrame(matrix, index=labels, columns=labels)

    @cached_property
    def idata(self) -> Any:
        """ArviZ object of all results.

        Groups posterior, posterior_predictive, log_likelihood, sample_stats, prior,
        observed_data and constant_data. `posterior_predictive` holds, for an observed site
        NAME, replicated data ``NAME``, the noise-free ``NAME_prediction`` and, with confounds,
        ``NAME_fitted``, in the units of the data.
        """
        return arviz_adapter.assemble(self._data_sets)

    @property
    def _groups(self) -> dict[str, xr.Dataset]:
        """Groups of `idata` by name, with what users have changed there.

        Without it where nobody has asked for it: ArviZ 0.23 takes half a second to be imported.
        """
        shown = vars(self).get("idata")
        return self._data_sets if shown is None else arviz_adapter.groups_of(shown)

    @worked_out
    def _data_sets(self) -> dict[str, xr.Dataset]:
        problem, posterior = self.problem, self.posterior
        evaluated = predictive(problem, posterior.flat_sample, posterior.seed)
        statistics = dict(posterior.statistics) or self._by_chain(evaluated["stats"])
        if posterior.density is not None:
            statistics["log_q"] = posterior.density
        prior = prior_sample(problem, PRIOR_DRAWS, posterior.seed)
        prior_values = {k: v[None] for k, v in site_values(problem, prior).items()}
        dims, data = _dims(problem), modelled_data(problem)
        modelled, predicted = self._by_chain(evaluated.pop("predictive")), {}
        # Those of all draws are most of the memory of a fit: none is kept twice.
        for name in list(modelled):
            predicted |= in_data_units(problem, {name: modelled.pop(name)})
        likelihood = {
            name: _arranged(problem, value) if is_restored(problem, name) else value
            for name, value in self._by_chain(evaluated["likelihood"]).items()
        }
        # What is judged as a whole has one number, rows that are have one each.
        of_likelihood = {
            name: dims[name][: value.ndim - len(AXES)]
            for name, value in likelihood.items()
            if name in dims and not problem.sites.foreign
        }
        groups = {
            "posterior": _shown(self._draws_by_site),
            "posterior_predictive": predicted,
            "log_likelihood": likelihood,
            "sample_stats": statistics,
            "prior": _shown(prior_values),
            "observed_data": data.observed,
            "constant_data": data.constants,
        }
        return {
            name: arviz_adapter.dataset(
                values,
                of_likelihood if name == "log_likelihood" else dims,
                problem.coords,
                () if name.endswith("_data") else AXES,
            )
            for name, values in groups.items()
            if values
        }

    @worked_out
    def prior_predictive(self) -> xr.Dataset:
        """Data that the prior predicts, one draw for each of ``idata.prior``.

        For an observed site NAME replicated data ``NAME`` (without confounds) and the noise-free
        ``NAME_prediction``, each (chain, draw, ...), in the units of the data. Where a draw gives
        a trajectory that diverges, values are not finite.

        Raises
        ------
        ValueError
            If the fit was read from a file that cannot hold its program.
        """
        problem, seed = self.problem, self.posterior.seed
        prior = prior_sample(problem, PRIOR_DRAWS, seed)
        predicted = predictive(problem, prior, seed)["predictive"]
        # What is fitted has the confounds that the data imply.
        values = {}
        for name, value in predicted.items():
            fitted = predicted.get(f"{name}_fitted")
            shift = 0.0 if fitted is None else predicted[f"{name}_prediction"] - fitted
            if not name.endswith("_fitted"):
                values[name] = (value + shift)[None]
        values = in_data_units(problem, values)
        return arviz_adapter.dataset(values, _dims(problem), problem.coords)

    @worked_out
    def modes(self) -> tuple[Fit, ...]:
        """Distinct modes that were found, each a fit.

        Of variational Laplace, the optima of all ``starts`` that are at least two posterior
        standard deviations apart, the best first, which is this fit. Of NUTS, groups of chains
        that have been in the same places (R-hat of pairs at most 1.1), the largest first. Of
        `bayesdcm.stack_modes`, those that it mixed. This fit alone where there is one mode.
        """
        if not self.is_bound:
            return (self,)
        modes = posterior_modes(self.posterior)
        return tuple(
            self if mode is self.posterior else type(self)(self.problem, mode) for mode in modes
        )

    # Use

    @worked_out
    def _summary(self) -> pd.DataFrame:
        labels, gaussian = self.labels, self.posterior.gaussian
        if gaussian is not None and (self._exact or isinstance(gaussian[1], BlockCovariance)):
            return self._gaussian_summary(gaussian[0], np.sqrt(variances(gaussian[1])))
        draws = self._entries
        if self.posterior.point is not None:
            return self._point_summary(draws[0, 0])
        flat = draws.reshape(-1, len(labels))
        low, high = np.quantile(flat, (0.05, 0.95), axis=0)
        columns = {
            "mean": flat.mean(0),
            "sd": flat.std(0, ddof=1),
            "eti_5%": low,
            "eti_95%": high,
            "probability": np.maximum((flat > 0).mean(0), (flat < 0).mean(0)),
        }
        columns |= self._inclusion()
        if self.posterior.method.exact:
            columns |= arviz_adapter.convergence(draws)
        return pd.DataFrame(columns, index=pd.Index(labels, name="parameter"))

    def _gaussian_summary(self, mean: NDArray, sd: NDArray) -> pd.DataFrame:
        """Of a Gaussian posterior, without draws."""
        columns = {
            "mean": mean,
            "sd": sd,
            "eti_5%": mean - NORMAL_95 * sd,
            "eti_95%": mean + NORMAL_95 * sd,
            "probability": ndtr(np.abs(mean) / sd),
        }
        columns |= self._inclusion()
        return pd.DataFrame(columns, index=pd.Index(self.labels, name="parameter"))

    def _inclusion(self) -> dict[str, NDArray]:
        """Probabilities that parameters are there, where some may be absent."""
        inclusion = getattr(self.posterior.optima, "inclusion", np.ones(1))
        return {"inclusion": inclusion} if (inclusion < 1).any() else {}

    def _point_summary(self, point: NDArray) -> pd.DataFrame:
        optima = self.posterior.optima
        columns = {"estimate": point}
        if all(site.plain for site in self.problem.sites.sites):
            columns["spread"] = optima.spread
        columns["sensitivity"] = optima.sensitivity
        return pd.DataFrame(columns, index=pd.Index(self.labels, name="parameter"))

    def summary(self) -> pd.DataFrame:
        """Posterior of every free parameter, one row each, such as ``A[V5, V1]``.

        Returns
        -------
        pandas.DataFrame
            Columns ``mean``, ``sd``, ``eti_5%``, ``eti_95%`` (equal-tailed interval),
            ``probability`` (that the parameter has the sign that it has most likely) and, for NUTS,
            ``ess_bulk``, ``ess_tail``, ``r_hat``; of sparse models ``inclusion`` (probability that
            the parameter is not absent). Of methods that find the best point and no
            more, ``estimate``, ``spread`` (half the range over the starts that reached the best,
            NaN of one start) and ``sensitivity`` (how much data say, nats for a prior standard
            deviation).
        """
        return self._summary.copy()

    def predict(self) -> Any:
        """Posterior mean of the fitted data, confounds included, in the units of the data.

        Draws at which the model diverges are left out; ``attrs["left_out_draws"]`` is how many.
        Of a hierarchy, 250 draws are taken for each subject.

        Returns
        -------
        xarray.DataArray or dict of xarray.DataArray
            Shape of the observed array; a dict by site where there is more than one; of a
            hierarchy, a dict of these by subject.

        Raises
        ------
        ValueError
            If the program has no observed site, but a factor.

        Warns
        -----
        UserWarning
            If draws are left out.
        """
        if self.is_bound and hasattr(self.problem.model, "member_problems"):
            return {name: member.predict() for name, member in self._members().items()}
        groups = self._groups
        if "posterior_predictive" not in groups:
            unbound = (
                "" if self.is_bound else "; of a hierarchy, load_fit(path, model, data) has it"
            )
            raise ValueError(
                f"the program has no observed site, so there is nothing that it predicts{unbound}"
            )
        group = groups["posterior_predictive"]
        means = {}
        for name in group.data_vars:
            # Observations that are not Gaussian have replicated data alone.
            if not name.endswith("_fitted") and f"{name}_fitted" in group:
                continue
            if name.endswith("_prediction"):
                continue
            draws, left_out = kept_draws(group[name])
            mean = group[name].isel(chain=0, draw=0, drop=True).copy(data=draws.mean(0))
            mean.attrs["left_out_draws"] = left_out
            site = name.removesuffix("_fitted")
            means[site] = mean
            if left_out:
                total = group.sizes["chain"] * group.sizes["draw"]
                warnings.warn(
                    f"The model diverges, or nearly so, at {left_out} of {total} draws of the "
                    f"posterior, which the mean prediction of {site} leaves out. See "
                    "fit.diagnose().",
                    stacklevel=2,
                )
        return next(iter(means.values())) if len(means) == 1 else means

    def _members(self) -> dict[str, Fit]:
        """Of a hierarchy, the posterior of each subject, by some draws."""
        problems = self.problem.model.member_problems(self.problem.data)
        vectors = self._draws_by_site["subject_parameters"]
        vectors = vectors.reshape(-1, *vectors.shape[2:])
        chosen = np.linspace(0, len(vectors) - 1, min(MEMBER_DRAWS, len(vectors))).astype(int)
        method, seed = self.posterior.method, self.posterior.seed
        return {
            name: type(self)(problem, Posterior(method, draws=vectors[None, chosen, i], seed=seed))
            for i, (name, problem) in enumerate(problems.items())
        }

    def diagnose(self) -> Diagnosis:
        """What is wrong with the fit, in words.

        Returns
        -------
        bayesdcm.infer.Diagnosis
            Prints as sentences; ``problems`` is a list of them, empty if there is none.
        """
        return diagnose(self)

    def drives(self, draw: int | None = None) -> tuple[Any, ...]:
        """Drives of a column at the posterior mean or a draw, for `bayesdcm.write_hnn`.

        Parameters
        ----------
        draw : int, optional
            Which draw, of all chains one after the other. None: the posterior mean, of spreads
            and weights that of the logarithm.

        Returns
        -------
        tuple of Drive
            With all numbers fixed.

        Raises
        ------
        TypeError
            If the model has no drives.
        IndexError
            If there is no such draw.
        """
        model = self.problem.model
        if not hasattr(model, "drives_at"):
            raise TypeError(
                f"drives are those of a LaminarDCM, and the fit is of {type(model).__name__}"
            )
        if draw is None:
            return model.drives_at(self.mean)
        sites = self._draws_by_site
        shape = self.posterior.sample.shape[:2]
        chain, place = np.unravel_index(range(shape[0] * shape[1])[draw], shape)
        return model.drives_at({name: values[chain, place] for name, values in sites.items()})

    def check_with(
        self,
        simulator: Any,
        *,
        draws: int = 40,
        n_trials: int = 3,
        rounds: int = 2,
        inflation: float = 2.0,
        seed: int = 0,
        progress: bool = True,
    ) -> NetworkCheck:
        """Run the biophysical network at draws of the posterior, and correct the posterior by it.

        For fits of a `LaminarDCM`. In each trial of the network the times of events are known, so
        that the column is solved with the same events; the difference of their dipoles is regressed
        on the times and weights of the drives (ridge regression, the ridge chosen by leaving runs
        out) and added to the column's dipole. The covariance of what is left, from runs left out in
        turn, takes the place of the error that calibration has measured over all settings. The data
        are then fitted anew, by the same method. In each further round the network is run at draws
        of the corrected posterior, and all runs so far are used.

        Parameters
        ----------
        simulator : HnnSimulator
            Or what has its ``run_many``. Its trials must last as long as the data.
        draws : int
            Sets of drives in each round.
        n_trials : int
            Trials of each set, which tell what averages out over trials.
        rounds : int
            How often; ``draws * n_trials * rounds`` trials are run, 240 by default.
        inflation : float
            Factor of the deviations of draws from the posterior mean in all rounds but the last,
            for runs all around it.
        seed : int
            Seed of draws and fits.
        progress : bool
            Whether to show that of fits; the simulator shows its own.

        Returns
        -------
        bayesdcm.infer.NetworkCheck
            Fits before and after, the runs, and how much each parameter moved.

        Raises
        ------
        TypeError, ValueError
            If the fit is of another model, an option is none, trials end before the data, or draws
            are no drives.
        """
        return check_with_network(
            self,
            simulator,
            draws=draws,
            n_trials=n_trials,
            rounds=rounds,
            inflation=inflation,
            seed=seed,
            progress=progress,
        )

    def save(self, path: str | Path, *, predictions: bool = False) -> Path:
        """Write the fit to one netCDF file, whole or not at all.

        `bayesdcm.load_fit` reads it, and then it does all that this fit does. The file holds the
        model's structure and its data, the posterior and the record of the method as plain
        arrays, and no code.

        Parameters
        ----------
        path : path-like
            Where to write; an existing file is replaced once the new one is complete.
        predictions : bool
            Whether to write the groups of ``idata``, too, so that ``arviz.from_netcdf`` reads the
            file. They follow from the rest and take most of the room. Of a program of one's own,
            which files do not hold, they are written in any case.

        Returns
        -------
        pathlib.Path
            The path.

        Raises
        ------
        FileNotFoundError
            If the folder does not exist.
        """
        return save_fit(self, path, predictions=predictions)


def _shown(values: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Sites that results show: full arrays instead of vectors of free entries."""
    hidden = {n for n in values if n.endswith(FREE) and n.removesuffix(FREE) in values}
    return {name: value for name, value in values.items() if name not in hidden}


def _arranged(problem: Problem, likelihood: NDArray) -> NDArray:
    """Log-likelihoods of points, (chains, draws, rows, columns), or of rows, on axes of results."""
    if likelihood.ndim > len(AXES) + 1:
        return problem.arrange(likelihood)
    return problem.arrange(likelihood[..., None])[..., 0]


def _dims(problem: Problem) -> dict[str, tuple[str, ...]]:
    """Axes of all sites, and of predictions of the observed ones."""
    suffixes = ("", "_prediction", "_fitted")
    return {name + end: tuple(axes) for name, axes in problem.dims.items() for end in suffixes}
