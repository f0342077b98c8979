"""The DCM of whole brains: a network's linear response, and a posterior over its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from bayesdcm.data.connectome import Connectome
from bayesdcm.data.covariance import CovarianceData
from bayesdcm.data.spectral import SpectralData
from bayesdcm.data.validation import check_real_array, some_names
from bayesdcm.integrate.hermitian import from_columns
from bayesdcm.integrate.network_response import (
    NetworkResponse,
    StationaryCovariance,
    check_network,
    resolving_points,
    tracts,
)
from bayesdcm.models.dcm import DCM, Parameters, Parts, Prepared
from bayesdcm.models.network import NetworkModel, check_node, weights_of
from bayesdcm.models.priors import complete_parameters
from bayesdcm.neural.base import NodeModel, Prior
from bayesdcm.neural.couplings import Coupling
from bayesdcm.neural.linear import Linear
from bayesdcm.neural.noise import Noise, White
from bayesdcm.observe.covariance import RegionalCovariance
from bayesdcm.observe.network_spectra import NetworkSpectra

LIKELIHOODS = ("wishart", "normal", "whittle")
# At which a stable rest is looked for where the prior means have none.
PRIOR_DRAWS = 20
STRENGTH_VARIANCE = 1.0
# Log scalings of the strength of the linear baseline.
BASELINE_STRENGTHS = np.linspace(-4.0, 4.0, 25)


@dataclass(frozen=True, eq=False, repr=False)
class WholeBrainDCM(DCM):
    """Dynamic causal model of a whole brain by the linear response of its network about rest.

    A node in every region of a connectome, driven by noise, fluctuates about its stable rest; the
    covariance of its activity and its cross-spectra follow in closed form, without simulation, so
    that every method gives a posterior. With the default, linear node it is the baseline of all
    others. Data are `bayesdcm.CovarianceData`, such as functional connectivity, or
    `bayesdcm.SpectralData`.

    Parameters
    ----------
    connectome : Connectome or array_like
        Weights (to x from), lengths (mm) and names of regions; or weights alone. Data with a
        connectome of their own take that one, times the same `strength`.
    node : NodeModel
        What is in a region; default `bayesdcm.Linear`.
    coupling, coupled
        See `bayesdcm.NetworkModel`.
    strength : array_like, optional
        Factor of the coupling, a number or by receiving region; default: such that regions receive
        a total of 1 on average.
    speed : float or None
        Conduction speed, m/s. None: no delays, which matter little to slow signals.
    noise : OrnsteinUhlenbeck, White or sequence of them
        What drives the nodes; default ``White(1.0)``.
    regional : sequence of str or mapping
        How parameters differ between regions, see `bayesdcm.NetworkModel`; ``"shrunk"`` lets data
        tell how much they do.
    likelihood : {"wishart", "normal", "whittle"}
        ``"wishart"`` and ``"normal"`` of `CovarianceData`, see
        `bayesdcm.observe.RegionalCovariance`; ``"whittle"`` of `SpectralData`.
    haemodynamics : bool
        With ``"whittle"``, whether spectra are of BOLD signals.
    lead_field : array_like, shape (channels, regions), optional
        With ``"whittle"``, what channels of EEG or MEG see of the activity of each region.
    absolute : bool
        Whether signals are in the units of the activity, so that data tell the size of the noise.
        Correlations, and BOLD signals, are not.
    priors : mapping or pandas.DataFrame, optional
        Priors in place of the model's own, as for `bayesdcm.TaskDCM`.

    Raises
    ------
    TypeError, ValueError
        As `bayesdcm.NetworkModel`; if there is no noise, or options do not go together.

    Notes
    -----
    Parameters are log scalings of constants, N(0, 1/16), the strength N(0, 1). What data cannot
    tell is fixed, unless `priors` free it: unless `absolute`, the size of noise that regions share;
    and without delays and spectra, the time constant of the linear node, of which covariances have
    the product with the power of noise only.

    References
    ----------
    .. [1] Galan (2008), PLoS ONE 3:e2148. https://doi.org/10.1371/journal.pone.0002148
    .. [2] Deco et al. (2013), J Neurosci 33:11239. https://doi.org/10.1523/JNEUROSCI.1091-13.2013

    Examples
    --------
    >>> model = WholeBrainDCM([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    >>> model
    WholeBrainDCM(3 regions, linear, diffusive; likelihood='wishart')
    >>> model.functional_connectivity({}).round(2).tolist()
    [[1.0, 0.38, 0.15], [0.38, 1.0, 0.38], [0.15, 0.38, 1.0]]
    """

    connectome: Any
    node: NodeModel = field(default_factory=Linear)
    coupling: str | Coupling = "diffusive"
    coupled: str | tuple[str, str | Sequence[str]] | None = None
    strength: ArrayLike | None = None
    speed: float | None = None
    noise: Noise | Sequence[Noise] = field(default_factory=lambda: White(1.0))
    regional: Sequence[str] | Mapping[str, Any] = ()
    likelihood: str = field(default="wishart", kw_only=True)
    haemodynamics: bool = field(default=False, kw_only=True)
    lead_field: Any = field(default=None, kw_only=True)
    absolute: bool = field(default=False, kw_only=True)
    priors: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.likelihood not in LIKELIHOODS:
            raise ValueError(
                f"likelihood must be one of {', '.join(map(repr, LIKELIHOODS))}, "
                f"got {self.likelihood!r}"
            )
        for name in ("haemodynamics", "absolute"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}")
        spectral = self.likelihood == "whittle"
        if not spectral and (self.haemodynamics or self.lead_field is not None):
            name = "haemodynamics" if self.haemodynamics else "lead_field"
            raise ValueError(
                f"{name} is for spectra, but likelihood={self.likelihood!r} is for covariances; "
                "give likelihood='whittle', or leave it out: haemodynamics that all regions share "
                "change correlations little"
            )
        if self.haemodynamics and (self.lead_field is not None or self.absolute):
            other = "lead_field" if self.lead_field is not None else "absolute"
            raise ValueError(f"haemodynamics and {other} exclude each other; leave one of them out")
        check_node(self.node)
        network = self.network.network
        check_network(network)
        if self.lead_field is not None:
            matrix = check_real_array("lead_field", self.lead_field, ("channels", "regions"))
            if matrix.shape[1] != network.n_nodes:
                raise ValueError(
                    f"lead_field has shape {matrix.shape}; expected (channels, {network.n_nodes}), "
                    "a column for each region of the connectome"
                )
            object.__setattr__(self, "lead_field", matrix)
        self._set_priors(self.priors)

    def __repr__(self) -> str:
        network = self.network.network
        coupling = self.coupling if isinstance(self.coupling, str) else repr(self.coupling)
        regional = ", ".join(network.regional or {})
        title = self.node.title or type(self.node).__name__
        words = [f"{network.n_nodes} regions", title, coupling]
        words += [f"{self.speed:g} m/s"] if network.delayed else []
        given = f"; {self.priors!r}" if self.priors.given else ""
        return (
            f"WholeBrainDCM({', '.join(words)}{f'; by region: {regional}' if regional else ''}; "
            f"likelihood={self.likelihood!r}{given})"
        )

    # Parts

    @cached_property
    def network(self) -> NetworkModel:
        """The network as what simulates it, a `bayesdcm.NetworkModel`."""
        weights = weights_of(self.connectome)
        strength = self.strength
        if strength is None:
            strength = len(weights) / weights.sum() if weights.any() else 1.0
        return NetworkModel(
            *(self.node, self.connectome, self.coupling, self.coupled, strength, self.speed),
            noise=self.noise,
            regional=self.regional,
        )

    @cached_property
    def parts(self) -> Parts:
        """The network, its linear response, and covariances or spectra."""
        network = self.network.network
        if self.likelihood == "whittle":
            spectra = NetworkSpectra(
                haemodynamics=self.haemodynamics,
                lead_field=self.lead_field,
                absolute=self.absolute,
            )
            return Parts(network, NetworkResponse(), spectra)
        return Parts(
            network, StationaryCovariance(), RegionalCovariance(self.likelihood, self.absolute)
        )

    def own_priors(self) -> tuple[Prior, ...]:
        """Priors that hold where none are given; see `DCM.own_priors`."""
        return tuple(map(self._own, super().own_priors()))

    def _own(self, prior: Prior) -> Prior:
        """A prior with what data cannot tell fixed."""
        network, variance = self.network.network, None
        linear = isinstance(self.node, Linear) and network.coupling.linear
        timeless = self.likelihood != "whittle" and not network.delayed
        white = len(network.noise) == 1 and isinstance(network.noise[0], White)
        if prior.name == "strength":
            variance = STRENGTH_VARIANCE
        elif prior.name == "tau" and not prior.dims and linear and timeless and white:
            variance = 0.0
        elif prior.name in ("noise_intensity", "noise_sd") and not prior.dims:
            variance = None if self.absolute or len(network.noise) > 1 else 0.0
        if variance is None:
            return prior
        return replace(prior, variance=np.full(np.shape(prior.mean), variance))

    def baseline_correlation(self, data: CovarianceData | SpectralData) -> float:
        """Correlation with data of a linear network with one strength for all regions.

        What a model of more parameters or of other nodes should exceed: the largest over strengths
        from a fiftieth to fifty times the usual.

        Parameters
        ----------
        data : CovarianceData or SpectralData
            The data set.

        Returns
        -------
        float
            Of all pairs of regions, or all entries of spectra.
        """
        simple = replace(
            self,
            **{"node": Linear(), "coupling": "diffusive", "coupled": None, "strength": None},
            **{"noise": White(1.0), "regional": (), "priors": None},
        )
        means = {prior.name: jnp.asarray(prior.mean) for prior in simple.priors}
        observed = np.ravel(simple.restore(np.asarray(simple.prepare(data).signal), data))
        best = -1.0
        for strength in BASELINE_STRENGTHS:
            steps, space = simple._steps(data), simple.observer.prepare(data, {})
            parameters = means | {"strength": jnp.asarray(strength)}
            predicted = simple.observer.predict(
                simple._solution(parameters, steps), parameters, space
            )
            values = np.ravel(simple.restore(np.asarray(predicted), data))
            if np.isfinite(values).all() and values.std() > 0:
                best = max(best, float(np.corrcoef(values, observed)[0, 1]))
        return best

    def restrict(self, **switches: Any) -> NoReturn:
        """Not for whole brains: whatever is given, an error says what to do instead.

        Raises
        ------
        ValueError
            Always: weights of a connectome are no switches.
        """
        raise ValueError(
            f"{', '.join(switches) or 'this model'} cannot be restricted: a whole-brain model "
            "has no connections of its own to switch off. Give it a connectome without these tracts"
        )

    # Names

    def check(self, data: Any) -> None:
        """Raise an error where data do not fit, or have regions of other names; see `DCM.check`."""
        super().check(data)
        known = getattr(self.connectome, "region_names", None)
        names = getattr(data, "region_names", getattr(data, "names", None))
        if self.lead_field is not None:
            names = None
        self._check_own(data.connectome, {"that of the model has": known, "data has": names})
        if known is None or names is None:
            return
        if tuple(names) != tuple(known) and not _numbered(known) and not _numbered(names):
            advice = "bring both in one order" if set(names) == set(known) else "name regions alike"
            raise ValueError(
                f"data has the regions {some_names(names)}, but the connectome has "
                f"{some_names(known)}; {advice}"
            )

    def prepare(self, data: Any) -> Prepared:
        """Arrays that the program needs of a data set, see `DCM.prepare`.

        Parameters
        ----------
        data : CovarianceData or SpectralData
            The data set.

        Raises
        ------
        ValueError
            If the network has no stable rest at the prior means, nor at draws of the prior.
        """
        prepared = super().prepare(data)
        model, random = self.for_data(data), np.random.default_rng(0)
        # Before a fit, which would search for a starting point for long and blame the data.
        for draw in range(1 + PRIOR_DRAWS):
            parameters = {}
            for prior in model.priors:
                away = np.sqrt(prior.variance) * random.normal(size=np.shape(prior.mean))
                parameters[prior.name] = jnp.asarray(prior.mean + (away if draw else 0.0))
            if np.isfinite(model._solution(parameters, prepared.steps)).all():
                return prepared
        raise ValueError(
            f"the network of {type(self.node).__name__} nodes has no stable rest at the prior "
            "means, about which it could respond, nor nearby; choose other constants of the node, "
            "a weaker coupling (strength) or another node"
        )

    def _check_own(
        self, own: Connectome | None, others: Mapping[str, Sequence[str] | None]
    ) -> None:
        """Raise an error where the connectome of a data set is not of the same regions."""
        network = self.network.network
        if own is None:
            return
        if len(own.weights) != network.n_nodes:
            raise ValueError(
                f"the connectome of data has {len(own.weights)} regions, but that of the model has "
                f"{network.n_nodes}; bring both to the same regions"
            )
        names = own.region_names or ()
        for who, known in others.items():
            if known is None or _numbered(known) or _numbered(names):
                continue
            if tuple(names) != tuple(known):
                raise ValueError(
                    f"the connectome of data has the regions {some_names(names)}, but {who} "
                    f"{some_names(known)}; bring both in one order"
                )
        if network.delayed and own.lengths is None:
            raise ValueError(
                f"the connectome of data has no lengths, but speed is {self.speed:g} m/s; give "
                "lengths, or speed=None"
            )

    def names(self, data: Any = None) -> dict[str, list[str]]:
        """Names along each kind of axis; regions are those of the connectome, if it has names."""
        names = super().names(data)
        known = getattr(self.connectome, "region_names", None)
        if known is not None and (data is None or not _numbered(known)):
            names |= dict.fromkeys(("region", "to", "from", "node"), list(known))
        return names

    # Predictions

    def functional_connectivity(self, parameters: Parameters) -> jax.Array:
        """Correlations of the activity of regions, without noise of measurement.

        Parameters
        ----------
        parameters : mapping
            Full arrays by name; those that are left out have their prior mean.

        Returns
        -------
        jax.Array
            Shape (regions, regions); NaN where rest is not stable.

        Raises
        ------
        ValueError
            If a parameter is not known or has another shape.
        """
        covariance = self.covariance(parameters)
        sd = jnp.sqrt(jnp.diagonal(covariance))
        return covariance / (sd[:, None] * sd)

    def covariance(self, parameters: Parameters, lag: float | None = None) -> jax.Array:
        """Covariance of the activity of regions, without noise of measurement.

        Parameters
        ----------
        parameters : mapping
            Full arrays by name; those that are left out have their prior mean.
        lag : float, optional
            Seconds by which the region of the row comes later. None: at the same time.

        Returns
        -------
        jax.Array
            Shape (regions, regions), squared units of the activity; NaN where rest is not stable.
            A warning tells where delays make it uncertain: next to where rest is unstable, or with
            long lags.

        Raises
        ------
        ValueError
            If a parameter is not known or has another shape.

        Examples
        --------
        >>> pair = WholeBrainDCM([[0, 1], [1, 0]])
        >>> now, later = pair.covariance({}), pair.covariance({}, lag=0.1)
        >>> bool((later < now).all())
        True
        """
        network, complete = self.network.network, self._complete(parameters)
        points = None
        if not any(isinstance(each, jax.core.Tracer) for each in (*complete.values(), lag)):
            points = resolving_points(network, complete, float(lag or 0.0))
        arrays = StationaryCovariance(points).prepare(network, None, None, {})
        return _covariance(self, complete, arrays, None if lag is None else jnp.asarray(lag))

    def cross_spectra(self, parameters: Parameters, frequencies: ArrayLike) -> jax.Array:
        """Cross-spectra of the activity of regions, without noise of measurement.

        Parameters
        ----------
        parameters : mapping
            Full arrays by name; those that are left out have their prior mean.
        frequencies : array_like
            Hz, above 0, shape (frequencies,).

        Returns
        -------
        jax.Array
            Complex, one-sided, per Hz, shape (frequencies, regions, regions); see
            `bayesdcm.SpectralData`. Not finite where rest is not stable.

        Raises
        ------
        ValueError
            If a parameter is not known or has another shape, or a frequency is not above 0.
        """
        at = jnp.asarray(check_real_array("frequencies", frequencies, ("frequencies",)))
        if not (at > 0).all():
            raise ValueError(f"frequencies must be above 0 Hz, got {float(at.min()):g}")
        return _cross_spectra(self, self._complete(parameters), at)

    def _complete(self, parameters: Parameters) -> dict[str, jax.Array]:
        known = {prior.name: prior.mean for prior in self.priors.all}
        unknown = [name for name in parameters if name not in known]
        if unknown:
            raise ValueError(
                f"parameters names {unknown[0]!r}, which the model does not have; it has "
                f"{', '.join(map(repr, known))}"
            )
        given = known | dict(parameters)
        return complete_parameters(self.priors, given, self.names())


def _numbered(names: Sequence[str]) -> bool:
    """Whether names are those that regions have by default."""
    return all(name == f"region {i + 1}" for i, name in enumerate(names))


@partial(jax.jit, static_argnums=0)
def _covariance(
    model: WholeBrainDCM, parameters: Parameters, arrays: Any, lag: jax.Array | None
) -> jax.Array:
    return StationaryCovariance().solve(model.network.network, None, parameters, arrays, lag)


@partial(jax.jit, static_argnums=0)
def _cross_spectra(
    model: WholeBrainDCM, parameters: Parameters, frequencies: jax.Array
) -> jax.Array:
    solver, observer = NetworkResponse(), NetworkSpectra(absolute=True)
    network = model.network.network
    arrays = {"frequencies": frequencies, "tracts": tracts(network, None)}
    return from_columns(solver.solve(network, observer, parameters, arrays))
