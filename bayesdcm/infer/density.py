"""A NumPyro program as functions of one flat, unconstrained vector.

Every method works on the same vector. Sites without a role come first, in program order, then
those marked ``infer={"role": "observer"}``, then those marked ``infer={"role": "precision"}``:
- observer sites are parameters that turn hidden states into observations (a dipole's position
  and moment, a gain). Variational Laplace takes several cheap steps in them for each step in the
  others; to all other methods they are parameters like any;
- precision sites are log-precisions of the noise, which variational Laplace treats as
  hyperparameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax.core import eval_jaxpr
from jax.interpreters.partial_eval import dce_jaxpr
from numpy.typing import NDArray
from numpyro.distributions import (
    Cauchy,
    Gamma,
    HalfCauchy,
    MultivariateNormal,
    Normal,
    biject_to,
    constraints,
)
from numpyro.distributions.transforms import AffineTransform
from numpyro.distributions.util import sum_rightmost
from numpyro.infer.util import helpful_support_errors

from bayesdcm.infer.expected_prior import kinked, mean_log_density
from bayesdcm.neural.spike_and_slab import SpikeAndSlab
from bayesdcm.observe.gaussian import GaussianObservation

Program = Callable[[], Any]

# In the order of the flat vector.
ROLES = ("parameter", "observer", "precision")
# Of every array that results hold.
AXES = ("chain", "draw")


class Site(NamedTuple):
    """A sampled site."""

    name: str
    shape: tuple[int, ...]  # In unconstrained coordinates.
    constrained_shape: tuple[int, ...]  # Of its value.
    role: str  # One of `ROLES`.
    # Whether unconstrained coordinates are the value itself and the prior is normal, so that a
    # Gaussian posterior is one of the value.
    gaussian: bool
    # Whether the prior has a kink where unconstrained coordinates are the value: a Laplace prior.
    kinked: bool = False
    # Whether unconstrained coordinates are not a value less its location, over its scale.
    centred: bool = True
    # Whether the prior is neither, but unconstrained coordinates are the value all the same.
    unusual: bool = False

    @property
    def plain(self) -> bool:
        """Whether a Gaussian posterior of unconstrained coordinates is one of the value."""
        return self.gaussian or self.kinked or self.unusual

    @property
    def precision(self) -> bool:
        """Whether it is a log-precision of the noise."""
        return self.role == "precision"

    @property
    def size(self) -> int:
        """Number of unconstrained coordinates."""
        return prod(self.shape)


class Evaluation(NamedTuple):
    """A program evaluated at one point; observed sites come with their values."""

    log_prior: jax.Array  # Density in unconstrained coordinates, precision sites left out, ().
    log_hyperprior: jax.Array  # The same of the precision sites, ().
    log_likelihood: jax.Array  # Of all observed sites, ().
    values: dict[str, jax.Array]  # Of sampled and deterministic sites.
    observations: dict[str, tuple[GaussianObservation, jax.Array]]  # Of this package, by site.
    foreign: dict[str, tuple[Any, jax.Array]]  # All other observed sites.
    log_priors: dict[str, jax.Array]  # Density of each sampled site, precision sites too, ().


@dataclass(frozen=True)
class Layout:
    """Sites of a program and their place in the flat vector; hashable."""

    sites: tuple[Site, ...]  # In the order of `ROLES`.
    observed: tuple[str, ...]
    foreign: tuple[str, ...]  # Observed, and no Gaussian observation of this package.

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(site.size for site in self.sites)

    @property
    def n_parameters(self) -> int:
        """Number of coordinates that are not log-precisions."""
        return sum(site.size for site in self.sites if not site.precision)

    @property
    def n_observer(self) -> int:
        """Number of coordinates of observer sites, the last of the parameters."""
        return sum(site.size for site in self.sites if site.role == "observer")

    @property
    def kinked(self) -> NDArray[np.intp]:
        """Where the parameters are whose priors have kinks."""
        places = [self.places[site.name] for site in self.sites if site.kinked]
        return np.concatenate([np.zeros(0, np.intp), *places])

    @property
    def places(self) -> dict[str, NDArray[np.intp]]:
        """Where the entries of each site are in the flat vector."""
        ends = np.cumsum([site.size for site in self.sites])
        return {
            site.name: np.arange(end - site.size, end)
            for site, end in zip(self.sites, ends, strict=True)
        }

    def of_roles(self, *roles: str) -> Layout:
        """The same without the sites of other roles."""
        return replace(self, sites=tuple(site for site in self.sites if site.role in roles))

    def unflatten(self, vector: jax.Array) -> dict[str, jax.Array]:
        """Split a flat vector into unconstrained arrays by site."""
        parts, start = {}, 0
        for site in self.sites:
            parts[site.name] = vector[start : start + site.size].reshape(site.shape)
            start += site.size
        return parts


def layout(program: Program) -> Layout:
    """Find the sites of a program without running any numerical work.

    A latent site that is discrete is a TypeError; a program that samples nothing, or observes
    nothing, or has a site named like an axis that all results have, a ValueError.
    """
    try:
        trace = traced(program)
    except ValueError as error:
        faults = invalid_distributions(program)
        if not faults:
            raise
        raise ValueError("; ".join(faults)) from error
    reserved = [n for n in AXES if n in trace and trace[n]["type"] in ("sample", "deterministic")]
    if reserved:
        raise ValueError(
            f"the program has a site named {reserved[0]!r}, which is the name of an axis of all "
            "results; expected another name. Rename the site."
        )
    samples = {name: site for name, site in trace.items() if site["type"] == "sample"}
    latent = [_site(s) for s in samples.values() if not s["is_observed"]]
    observed = {name: s for name, s in samples.items() if s["is_observed"]}
    if not latent:
        raise ValueError("the program samples no parameter: every site is observed or constant")
    if not observed:
        raise ValueError(
            "the program observes nothing; give obs= to a numpyro.sample site of the data"
        )
    foreign = [n for n, s in observed.items() if not isinstance(s["fn"], GaussianObservation)]
    latent.sort(key=lambda site: ROLES.index(site.role))
    return Layout(tuple(latent), tuple(observed), tuple(foreign))


def traced(program: Program) -> dict[str, dict[str, Any]]:
    """NumPyro's record of the sites of a program, in its order, with shapes in place of numbers."""
    trace: dict[str, dict[str, Any]] = {}
    jax.eval_shape(lambda: trace.update(_run(program)))
    return trace


def _run(program: Program) -> dict[str, dict[str, Any]]:
    seeded = numpyro.handlers.seed(program, jax.random.key(0))
    return numpyro.handlers.trace(seeded).get_trace()


def invalid_distributions(program: Program) -> list[str]:
    """Say which sites have distributions that cannot be, or data that are not finite.

    One sentence a fault; none if the program does not run. Predictions are not looked at: they
    depend on the parameters.

    >>> import numpyro, numpyro.distributions as dist
    >>> invalid_distributions(lambda: numpyro.sample("x", dist.Normal(0, 0.0)))
    ["site 'x': scale of Normal must be positive, got 0; a parameter that is to be fixed is ..."]
    """
    with numpyro.handlers.block(), numpyro.validation_enabled(False):
        try:
            sites = _run(program).values()
        except Exception:
            # What is wrong with it is said by whoever called.
            return []
    return [fault for site in sites if site["type"] == "sample" for fault in _faults(site)]


def _innermost(thing: Any, wrapped: str) -> Any:
    while hasattr(thing, wrapped):
        thing = getattr(thing, wrapped)
    return thing


def _faults(site: dict[str, Any]) -> list[str]:
    name, fn = site["name"], _innermost(site["fn"], "base_dist")
    faults = []
    for parameter, constraint in getattr(fn, "arg_constraints", {}).items():
        value = getattr(fn, parameter, None)
        if parameter == "prediction" or value is None:
            continue
        value, allowed = np.asarray(value), np.asarray(constraint(value))
        if allowed.all():
            continue
        text = f"site {name!r}: {parameter} of {type(fn).__name__} must be {_in_words(constraint)}"
        if allowed.shape == value.shape:
            text += f", got {value[~allowed].flat[0]:g}"
        if parameter == "scale" and not site["is_observed"]:
            text += (
                "; a parameter that is to be fixed is a constant of the program, not a "
                "numpyro.sample site"
            )
        faults.append(text)
    value = site["value"]
    if faults or not site["is_observed"] or not jnp.size(value) or bool(jnp.isfinite(value).all()):
        return faults
    # Missing values may be masked.
    if not bool(jnp.isfinite(site["fn"].log_prob(value)).all()):
        faults.append(f"the data of site {name!r} hold NaN or infinity")
    return faults


def _in_words(constraint: Any) -> str:
    constraint = _innermost(constraint, "base_constraint")
    words = (
        (constraints.real, "finite"),
        (constraints.positive, "positive"),
        (constraints.nonnegative, "at least 0"),
        (constraints.unit_interval, "from 0 to 1"),
    )
    return next((text for known, text in words if constraint is known), f"in {constraint}")


def _site(record: dict[str, Any]) -> Site:
    fn, name = record["fn"], record["name"]
    if fn.support.is_discrete:
        raise TypeError(
            f"site {name!r} is discrete ({type(fn).__name__}); the methods here need "
            "continuous parameters: sum it out, or mark it for enumeration elsewhere"
        )
    shape = tuple(jnp.shape(record["value"]))
    with helpful_support_errors(record):
        unconstrained = tuple(coordinates(record).inverse_shape(shape))
    role = record["infer"].get("role") or ROLES[0]
    if role not in ROLES:
        raise ValueError(
            f"site {name!r} has infer={{'role': {role!r}}}; a role is 'observer' (of parameters "
            "that turn states into observations) or 'precision' (of log-precisions of the "
            "noise), and all other sites go without"
        )
    normal = isinstance(_innermost(fn, "base_dist"), Normal | MultivariateNormal)
    support = _innermost(fn.support, "base_constraint")
    real = support in (constraints.real, constraints.real_vector) and _centred(record)
    kink = role != "precision" and _centred(record) and kinked(fn) is not None
    unusual = real and isinstance(_innermost(fn, "base_dist"), SpikeAndSlab | Gamma)
    gaussian, centred = normal and real, _centred(record)
    return Site(name, unconstrained, shape, role, gaussian, kink, centred, unusual)


def coordinates(site: dict[str, Any]) -> Any:
    """The transform from unconstrained coordinates of a site to its value.

    Those of a site marked ``infer={"centred": False}`` are its value less its location, over its
    scale, so that a priori they do not depend on other sites; a ValueError where it has neither.
    """
    fn = site["fn"]
    if _centred(site):
        return biject_to(fn.support)
    base = _innermost(fn, "base_dist")
    real = _innermost(fn.support, "base_constraint") is constraints.real
    if not real or not {"loc", "scale"} <= set(base.arg_constraints):
        raise ValueError(
            f"site {site['name']!r} has infer={{'centred': False}}, which is for distributions of "
            "all real numbers by loc and scale, such as Normal and StudentT, got "
            f"{type(base).__name__}; leave it out"
        )
    return AffineTransform(base.loc, base.scale, domain=fn.support)


def _centred(site: dict[str, Any]) -> bool:
    return bool(site["infer"].get("centred", True))


def evaluate(
    program: Program,
    sites: Layout,
    vector: jax.Array | dict[str, jax.Array],
    variance: jax.Array | None = None,
) -> Evaluation:
    """Evaluate a program at a flat, unconstrained point, or at unconstrained arrays by site.

    Where the parameters' `variance` is given (flat, without log-precisions), log-densities of
    kinked sites are their means over normal values about the point. Parts of the result that are
    not used cost nothing under ``jit``.
    """
    unconstrained = vector if isinstance(vector, dict) else sites.unflatten(vector)
    spread = {}
    if variance is not None:
        spread = sites.of_roles("parameter", "observer").unflatten(variance)
    jacobian: dict[str, jax.Array] = {}

    def substitution(site: dict[str, Any]) -> jax.Array | None:
        name = site["name"]
        if site["type"] != "sample" or name not in unconstrained:
            return None
        transform = coordinates(site)
        value = transform(unconstrained[name])
        log_jacobian = transform.log_abs_det_jacobian(unconstrained[name], value)
        jacobian[name] = jnp.sum(log_jacobian)
        return value

    substituted = numpyro.handlers.substitute(program, substitute_fn=substitution)
    # A density may be evaluated inside another program, which must not see these sites. The key
    # serves sites that are neither latent nor observed, such as subsampling plates.
    with numpyro.handlers.block():
        trace = _run(substituted)
    densities = {True: jnp.zeros(()), False: jnp.zeros(())}
    by_site, likelihood = {}, jnp.zeros(())
    values, observations, foreign = {}, {}, {}
    precision = {site.name: site.precision for site in sites.sites}
    for name, site in trace.items():
        if site["type"] == "deterministic":
            values[name] = site["value"]
        if site["type"] != "sample":
            continue
        if site["is_observed"]:
            known = isinstance(site["fn"], GaussianObservation)
            (observations if known else foreign)[name] = (site["fn"], site["value"])
            likelihood += _log_density(site)
        elif name in precision:
            values[name] = site["value"]
            by_site[name] = _log_density(site, spread.get(name)) + jacobian[name]
            densities[precision[name]] += by_site[name]
    log_prior, log_hyperprior = densities[False], densities[True]
    known = values, observations, foreign, by_site
    return Evaluation(log_prior, log_hyperprior, likelihood, *known)


def _log_density(site: dict[str, Any], variance: jax.Array | None = None) -> jax.Array:
    smooth = None if variance is None else kinked(site["fn"])
    if smooth is None:
        log_density = site["fn"].log_prob(site["value"])
    else:
        log_density = mean_log_density(smooth, site["value"], variance)
    if site.get("scale") is not None:
        log_density = site["scale"] * log_density
    return sum_rightmost(log_density, jnp.ndim(log_density))


class Outputs:
    """The outputs of a function of arrays, each as a function that computes nothing else.

    Tracing a program is slow and most of its derivatives are needed of small parts of it (the
    prior, say). The function, which returns a tuple, is traced once with example arguments, and
    each output keeps the operations that it depends on.
    """

    def __init__(self, function: Callable, *arguments: jax.Array) -> None:
        self._closed, self._shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        self._stops = np.cumsum([0, *(len(jax.tree.leaves(shape)) for shape in self._shapes)])

    def operations(self, index: int) -> tuple[Any, list]:
        """The operations of output `index`, a jaxpr of all arguments, and its constants."""
        jaxpr, (start, stop) = self._closed.jaxpr, self._stops[index : index + 2]
        keep = [start <= i < stop for i in range(len(jaxpr.outvars))]
        return dce_jaxpr(jaxpr, keep, instantiate=True)[0], self._closed.consts

    def select(self, index: int) -> Callable:
        """Output `index` as a function of the arguments."""
        small, consts = self.operations(index)
        tree = jax.tree.structure(self._shapes[index])

        def selected(*arguments: jax.Array) -> Any:
            flat = jax.tree.leaves(arguments)
            return jax.tree.unflatten(tree, eval_jaxpr(small, consts, *flat))

        return selected


def log_joint(
    program: Program, sites: Layout, vector: jax.Array | dict[str, jax.Array]
) -> jax.Array:
    """Log joint density of parameters (unconstrained) and data, ()."""
    result = evaluate(program, sites, vector)
    return result.log_prior + result.log_hyperprior + result.log_likelihood


def prior_centre(program: Program, sites: Layout) -> jax.Array:
    """Flat point at the prior means (medians of draws where a mean is not known)."""
    values = jax.jit(lambda: unconstrained_values(program, lambda site: _centre(site["fn"])))()
    return jnp.concatenate([jnp.ravel(values[site.name]).astype(float) for site in sites.sites])


def unconstrained_values(
    program: Program, choose: Callable[[dict[str, Any]], jax.Array]
) -> dict[str, jax.Array]:
    """Unconstrained values, by site, of a program that runs with what is chosen for each site."""
    values: dict[str, jax.Array] = {}

    def substitution(site: dict[str, Any]) -> jax.Array | None:
        if site["type"] != "sample" or site["is_observed"]:
            return None
        value = choose(site)
        values[site["name"]] = coordinates(site).inv(value)
        return value

    substituted = numpyro.handlers.substitute(program, substitute_fn=substitution)
    with numpyro.handlers.block():
        numpyro.handlers.seed(substituted, jax.random.key(0))()
    return values


def _centre(distribution: Any) -> jax.Array:
    base = _innermost(distribution, "base_dist")
    if isinstance(base, Cauchy | HalfCauchy):
        # They have a median, but no mean.
        median = base.loc if isinstance(base, Cauchy) else base.scale
        return jnp.broadcast_to(median, distribution.shape())
    try:
        return jnp.broadcast_to(distribution.mean, distribution.shape())
    except (NotImplementedError, AttributeError):
        return jnp.median(distribution.sample(jax.random.key(0), (256,)), axis=0)
