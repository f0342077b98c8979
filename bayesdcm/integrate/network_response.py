"""Linear response of a network: how fluctuations about rest spread, node by node and over tracts.

Nodes are joined by few signals only. So what each makes of what it receives is worked out for one
node at a time, and a system of as many unknowns as there are regions is left at each frequency, no
matter how many states a node has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.data.by_value import ByValue
from bayesdcm.data.covariance import CovarianceData
from bayesdcm.data.device import on_device
from bayesdcm.data.spectral import SpectralData
from bayesdcm.data.validation import warn_caller
from bayesdcm.integrate.base import Solver
from bayesdcm.integrate.complex_matrices import (
    inverses,
    product,
    row_by_row,
    spectrum,
    squares,
)
from bayesdcm.integrate.hermitian import from_columns, to_columns
from bayesdcm.integrate.linear_response import (
    delayed,
    growth_rate,
    is_stable,
    observer_transfer,
    rest_state,
)
from bayesdcm.neural.base import NeuralModel, Parameters, Prior
from bayesdcm.neural.couplings import Coupling
from bayesdcm.neural.network import Network
from bayesdcm.neural.noise import OrnsteinUhlenbeck

# Frequencies at which spectra are added up to a covariance, the fewest that resolve resonances.
POINTS = (128, 512, 2048)
# Frequencies times the width of a resonance, of which the error decays as exp(-4 N width): where
# parameters make it four times as narrow, one percent is left.
RESOLVED = 5.0
# The same for a mode that decays without turns, below which a tenth of what it adds is missed.
LEAST_RESOLVED = 0.6
# Frequencies over a lag in cycles of the middle one, far from where covariances would repeat.
LAG_RESOLVED = 39.0
# Doublings of the time over which Lyapunov's equation is solved, and what may be left then.
DOUBLINGS = 24
NEGLIGIBLE = 1e-9
# States of a network up to which its covariance is worked out without spectra.
MOST_STATES = 512


class NetworkSystem(NamedTuple):
    """A network that is linear about its rest; m is the number of signals that travel.

    Attributes
    ----------
    local : (nodes, states, states)
        Of each node by itself, 1/s.
    entry : (nodes, states, m)
        What weighted sums of what was sent add to the rates of change.
    sent : (nodes, m, states)
        What a node sends of its states.
    seen : (nodes, states)
        Its activity.
    weights, delays : (nodes, nodes)
        Of the connections, (to, from); delays in s, or None.
    noise : (processes, nodes, states)
        What a unit of each noise adds to the rates of change.
    tau : (processes, nodes)
        Time constants of the noise, s; 0 where it is white.
    seen_travels : bool
        Whether activity is the one signal that travels.
    """

    local: jax.Array
    entry: jax.Array
    sent: jax.Array
    seen: jax.Array
    weights: jax.Array
    delays: jax.Array | None
    noise: jax.Array
    tau: jax.Array
    seen_travels: bool = False

    def matrix(self) -> jax.Array:
        """The Jacobian without delays, nodes first, (nodes * states, nodes * states), 1/s."""
        n, k, _ = self.local.shape
        across = jnp.einsum("iam,ij,jmb->iajb", self.entry, self.weights, self.sent)
        own = jnp.einsum("iab,ij->iajb", self.local, jnp.eye(n))
        return (across + own).reshape(n * k, n * k)


def network_system(network: Network, parameters: Parameters) -> NetworkSystem:
    """A network about its rest, which Newton's method finds from that of its nodes.

    Parameters
    ----------
    network : Network
        With noise.
    parameters : mapping
        Full arrays by name.

    Returns
    -------
    NetworkSystem
        Not finite where there is no rest.

    Examples
    --------
    >>> from bayesdcm.neural import Additive, Linear, White
    >>> parts = Linear(), np.ones((2, 2)), None, Additive(), "x", ("I",)
    >>> pair = Network(*parts, noise=(White(1.0),))
    >>> system = network_system(pair, {p.name: jnp.asarray(p.mean) for p in pair.priors()})
    >>> system.local.ravel().tolist(), system.matrix().tolist()
    ([-10.0, -10.0], [[0.0, 10.0], [10.0, 0.0]])
    """
    own = network.constants(parameters)
    weights = jnp.asarray(network.weights)
    totals, n, k = weights.sum(1), network.n_nodes, len(network.states)
    nothing: Mapping[str, jax.Array] = {}

    def rates(x: jax.Array, sums: jax.Array, given: Mapping[str, jax.Array]) -> jax.Array:
        received = network.received(x, sums, own, totals, given)
        return network.node.local(x, received, jnp.zeros(0), own)

    start = network.rest(parameters)
    if network.affine:
        rest = start
    else:

        def flow(x: jax.Array) -> jax.Array:
            x = x.reshape(n, k)
            return rates(x, network.send(x, own) @ weights.T, nothing).ravel()

        rest = rest_state(flow, start.ravel(), jnp.linalg.solve).reshape(n, k)
    sums = network.send(rest, own) @ weights.T
    # Nodes do not see each other but by the sums, so that all are differentiated at once.
    each_state = jnp.broadcast_to(jnp.eye(k)[:, None], (k, n, k))
    each_sum = jnp.broadcast_to(jnp.eye(len(sums))[:, :, None], (len(sums), *sums.shape))

    def along(function: Any, at: jax.Array, tangents: jax.Array) -> jax.Array:
        return jax.vmap(lambda tangent: jax.jvp(function, (at,), (tangent,))[1])(tangents)

    local = along(lambda x: rates(x, sums, nothing), rest, each_state)
    entry = along(lambda s: rates(rest, s, nothing), sums, each_sum)
    sent = along(lambda x: network.send(x, own), rest, each_state)
    activity = along(lambda x: network.signal(network.activity, x, own), rest, each_state)
    noise, tau = [], []
    for which, process in enumerate(network.noise):
        values = {
            name: jnp.broadcast_to(value, (n,))
            for name, value in network.noise_values(which, own).items()
        }
        coloured = isinstance(process, OrnsteinUhlenbeck)
        for target in network.noise_targets(which):
            if coloured:
                effect = along(
                    lambda value, to=target: rates(rest, sums, {to: value}),
                    jnp.zeros(n),
                    jnp.ones((1, n)),
                )[0]
                noise.append(values["sd"][:, None] * effect)
            else:
                at = jnp.eye(k)[network.states.index(target)]
                noise.append(values["intensity"][:, None] * at)
            tau.append(values["tau"] if coloured else jnp.zeros(n))
    return NetworkSystem(
        local.transpose(1, 2, 0),
        entry.transpose(1, 2, 0),
        sent.transpose(2, 1, 0),
        activity.T,
        weights,
        network.travel_time(network.lengths, parameters) if network.delayed else None,
        jnp.stack(noise),
        jnp.stack(tau),
        network.sent == network.activity and type(network.coupling).send is Coupling.send,
    )


def network_transfer(system: NetworkSystem, frequencies: jax.Array) -> jax.Array:
    """Activity of each node for a unit of one-sided power of each noise at every frequency.

    Noise that is white has the power 2 per Hz for a unit of intensity, and one that decays within
    tau the power ``4 tau / (1 + (2 pi f tau)^2)`` for a unit of standard deviation.

    Parameters
    ----------
    system : NetworkSystem
        Stable; whether it is, is not looked at.
    frequencies : jax.Array
        Hz, shape (frequencies,).

    Returns
    -------
    jax.Array
        Shape (frequencies, nodes, processes * nodes): ``K K^H`` is the cross-spectrum.

    Examples
    --------
    A node that decays at 10 per second, at rest and where it turns as fast:

    >>> from bayesdcm.neural import Additive, Linear, White
    >>> parts = Linear(), np.zeros((1, 1)), None, Additive(), "x", ("I",)
    >>> single = Network(*parts, noise=(White(1.0),))
    >>> system = network_system(single, {p.name: jnp.asarray(p.mean) for p in single.priors()})
    >>> transfer = network_transfer(system, jnp.array([0.0, 5 / jnp.pi]))
    >>> (jnp.abs(transfer) ** 2).ravel().round(6).tolist()
    [0.02, 0.01]
    """
    n, _, m = system.entry.shape
    processes, points = len(system.noise), len(frequencies)
    driven, received, gain, first = _each_node(system, frequencies)
    seen = jnp.einsum("na,fnam->fnm", system.seen, received)
    coupling = system.weights.astype(complex)
    if system.delays is not None:
        coupling = coupling * delayed(frequencies[:, None, None], system.delays)
    else:
        coupling = jnp.broadcast_to(coupling, (points, n, n))
    # What is sent, z = gain W z + first; only one signal travels in most networks.
    if m == 1:
        inverse = inverses(jnp.eye(n) - gain[:, :, 0, 0, None] * coupling)
        spread = inverse
        if not system.seen_travels:
            spread = seen[:, :, 0, None] * product(coupling, inverse)
        among = spread[:, None] * first[:, :, None, :, 0]
    else:
        loop = jnp.eye(n * m) - jnp.einsum("fnlm,fnj->fnljm", gain, coupling).reshape(
            points, n * m, n * m
        )
        inverse = inverses(loop).reshape(points, n, m, n, m)
        among = jnp.einsum("fim,fij,fjmnl,fpnl->fpin", seen, coupling, inverse, first)
    if not (system.seen_travels and m == 1):
        apart = jnp.einsum("na,fpna->fpn", system.seen, driven)
        among = among + apart[..., None, :] * jnp.eye(n)
    return among.transpose(0, 2, 1, 3).reshape(points, n, processes * n)


def _each_node(system: NetworkSystem, frequencies: jax.Array) -> tuple[jax.Array, ...]:
    """What nodes make of noise and of what they receive: their states, and what they send."""
    n, k, _ = system.entry.shape
    turns = 2j * jnp.pi * frequencies
    nodes = turns[:, None, None, None] * jnp.eye(k) - system.local
    response = inverses(nodes.reshape(-1, k, k)).reshape(-1, n, k, k)
    power = jnp.where(
        system.tau > 0,
        4 * system.tau / (1 + (2 * jnp.pi * frequencies[:, None, None] * system.tau) ** 2),
        2.0,
    )
    driven = jnp.einsum("fnab,pnb,fpn->fpna", response, system.noise, jnp.sqrt(power))
    received = jnp.einsum("fnab,nbm->fnam", response, system.entry.astype(complex))
    gain = jnp.einsum("nla,fnam->fnlm", system.sent, received)
    return driven, received, gain, jnp.einsum("nla,fpna->fpnl", system.sent, driven)


def network_spectra(
    system: NetworkSystem, frequencies: jax.Array, seen: jax.Array | None = None
) -> jax.Array:
    """Cross-spectra of the activity of nodes, ``K K^H`` of what `network_transfer` gives.

    Parameters
    ----------
    system, frequencies
        As in `network_transfer`.
    seen : jax.Array, optional
        What is seen of a unit of activity, shape (frequencies, nodes). None: all.

    Returns
    -------
    jax.Array
        As real columns (`bayesdcm.integrate.hermitian`), shape (frequencies, nodes nodes).

    Examples
    --------
    >>> from bayesdcm.neural import Additive, Linear, White
    >>> parts = Linear(), np.zeros((1, 1)), None, Additive(), "x", ("I",)
    >>> single = Network(*parts, noise=(White(1.0),))
    >>> system = network_system(single, {p.name: jnp.asarray(p.mean) for p in single.priors()})
    >>> network_spectra(system, jnp.array([0.0, 5 / jnp.pi])).ravel().round(6).tolist()
    [0.02, 0.01]
    """
    n, _, m = system.entry.shape
    if not (system.seen_travels and m == 1):
        transfer = network_transfer(system, frequencies)
        return to_columns(squares(transfer if seen is None else seen[:, :, None] * transfer))
    _, _, gain, first = _each_node(system, frequencies)
    power = (first.real**2 + first.imag**2)[..., 0].sum(1)

    # Worked out again backwards, since keeping it takes longer; and with real numbers, of which XLA
    # takes many at once.
    @jax.checkpoint
    def loop(frequency: jax.Array, gain: jax.Array) -> jax.Array:
        real, imaginary = gain.real[:, None] * system.weights, gain.imag[:, None] * system.weights
        if system.delays is not None:
            turned = delayed(frequency, system.delays)
            real, imaginary = (
                real * turned.real - imaginary * turned.imag,
                real * turned.imag + imaginary * turned.real,
            )
        return jax.lax.complex(jnp.eye(n) - real, -imaginary)

    def row(frequency: jax.Array, gain: jax.Array, power: jax.Array, *seen: jax.Array) -> jax.Array:
        matrix = loop(frequency, gain)
        for each in seen:
            matrix = matrix / each
        return to_columns(spectrum(matrix, power))

    given = () if seen is None else (seen,)
    return row_by_row(row, frequencies, gain[:, :, 0, 0], power, *given)


def stationary_covariance(matrix: jax.Array, power: jax.Array) -> jax.Array:
    """Covariance S of ``dx = J x dt + noise``, which solves ``J S + S J' + Q = 0``.

    By Smith's method: of the bilinear transform of J, the propagator is squared again and again
    while what it adds to S is summed. Nothing is decomposed, and derivatives, which solve the same
    equation, are exact.

    Parameters
    ----------
    matrix : jax.Array
        J, 1/s, shape (n, n).
    power : jax.Array
        Q, covariance of the noise per second, shape (n, n).

    Returns
    -------
    jax.Array
        Shape (n, n); NaN where J is not stable.

    References
    ----------
    .. [1] Smith (1968), SIAM J Appl Math 16:198. https://doi.org/10.1137/0116017

    Examples
    --------
    >>> stationary_covariance(jnp.full((1, 1), -2.0), jnp.ones((1, 1))).round(12).item()
    0.25
    """
    return jax.lax.custom_linear_solve(
        lambda covariance: -(matrix @ covariance + covariance @ matrix.T),
        power,
        lambda _, power: _smith(matrix, power),
        lambda _, power: _smith(matrix.T, power),
    )


def _smith(matrix: jax.Array, power: jax.Array) -> jax.Array:
    n = len(matrix)
    # Rates of the middle size are those that decay fastest.
    step = 2 / _middle_rate(matrix)
    inverse = jnp.linalg.inv(jnp.eye(n) - step / 2 * matrix)
    propagator = inverse @ (jnp.eye(n) + step / 2 * matrix)

    def double(state: tuple) -> tuple:
        k, total, propagator = state
        return k + 1, total + propagator @ total @ propagator.T, propagator @ propagator

    def unfinished(state: tuple) -> jax.Array:
        k, _, propagator = state
        return (k < DOUBLINGS) & (jnp.abs(propagator).max() > NEGLIGIBLE)

    start = (0, step * inverse @ power @ inverse.T, propagator)
    _, total, left = jax.lax.while_loop(unfinished, double, start)
    return jnp.where(jnp.abs(left).max() <= NEGLIGIBLE, total, jnp.nan)


@dataclass(frozen=True)
class NetworkResponse(Solver):
    """Cross-spectra of a network that fluctuates about its rest, for those of `SpectralData`.

    What `LinearResponse` is for other neural models: rest is found, and delays are as they are.
    Noise is that of the network.

    References
    ----------
    .. [1] Deco et al. (2013), J Neurosci 33:11239. https://doi.org/10.1523/JNEUROSCI.1091-13.2013

    Examples
    --------
    >>> NetworkResponse()
    NetworkResponse()
    """

    data_class = SpectralData

    def check(self, neural: NeuralModel, observer: Any) -> None:
        """Raise an error where there is no network, or nothing drives it; see `Solver.check`."""
        super().check(neural, observer)
        check_network(neural)

    def prepare(
        self, neural: NeuralModel, observer: Any, design: Any, priors: Mapping[str, Prior]
    ) -> dict[str, Any]:
        """Frequencies and the connectome; see `Solver.prepare`."""
        frequencies = np.asarray(design.frequencies, float)
        return on_device({"frequencies": frequencies, "tracts": tracts(neural, design)})

    def solve(
        self, neural: Network, observer: Any, parameters: Parameters, arrays: dict
    ) -> jax.Array:
        """Of activity, or of what is seen of it; see `network_spectra`."""
        frequencies = arrays["frequencies"]
        system = network_system(replace(neural, **arrays["tracts"]), parameters)
        seen = None
        if observer.states:
            seen = observer_transfer(observer, neural.n_nodes, parameters, frequencies)
        return jnp.where(_stable(system), network_spectra(system, frequencies, seen), jnp.inf)


@dataclass(frozen=True)
class StationaryCovariance(Solver):
    """Covariance of the activity of a network that fluctuates about its rest.

    Without delays, and up to 512 states, those of the noise included, it solves Lyapunov's
    equation. Otherwise cross-spectra are added up over all frequencies.

    Parameters
    ----------
    points : int, optional
        Number of those frequencies. None: 128, which serve decaying nodes, or 512 or 2048 where the
        network has narrower resonances at the prior means; a warning tells of even narrower ones.

    Raises
    ------
    ValueError
        If `points` is not at least 8.

    References
    ----------
    .. [1] Galan (2008), PLoS ONE 3:e2148. https://doi.org/10.1371/journal.pone.0002148

    Examples
    --------
    >>> StationaryCovariance(512).points
    512
    """

    points: int | None = None

    data_class = CovarianceData

    def __post_init__(self) -> None:
        if self.points is not None and self.points < 8:
            raise ValueError(f"points is {self.points}; expected at least 8 frequencies")

    def check(self, neural: NeuralModel, observer: Any) -> None:
        """Raise an error where there is no network, or nothing drives it; see `Solver.check`."""
        super().check(neural, observer)
        check_network(neural)

    def prepare(
        self, neural: NeuralModel, observer: Any, design: Any, priors: Mapping[str, Prior]
    ) -> dict[str, Any]:
        """Frequencies, relative to a rate, what they weigh, and the connectome."""
        given = tracts(neural, design)
        points = self.points
        if points is None:
            means = {prior.name: prior.mean for prior in (*neural.priors(), *priors.values())}
            points = resolving_points(replace(neural, **given), means)
        # The tangent makes rational functions smooth ones on a circle, of which even points give
        # integrals that converge faster than any power of their number.
        angle = np.pi * (np.arange(points) + 0.5) / points / 2
        weights = np.pi / (2 * points) / np.cos(angle) ** 2
        arrays = {"frequencies": np.tan(angle), "weights": weights}
        return on_device(arrays | {"tracts": given})

    def solve(
        self,
        neural: Network,
        observer: Any,
        parameters: Parameters,
        arrays: dict,
        lag: jax.Array | None = None,
    ) -> jax.Array:
        """The covariance, (nodes, nodes); NaN where rest is not stable. See `Solver.solve`.

        With a lag, s, the region of the row comes so much later.
        """
        system = network_system(replace(neural, **arrays["tracts"]), parameters)
        if _few_states(neural):
            return _by_lyapunov(system, _coloured(neural), lag)
        rate = _middle_frequency(system)
        frequencies, steps = rate * arrays["frequencies"], rate * arrays["weights"]
        spectra = from_columns(network_spectra(system, frequencies))
        if lag is not None:
            # Where steps are longer than half a turn over the lag, what is between them cancels.
            turns = jnp.exp(2j * jnp.pi * frequencies * lag)
            spectra = spectra * (turns * jnp.exp(-((2 * steps * lag) ** 8)))[:, None, None]
        total = jnp.tensordot(steps, spectra.real, 1)
        # Of a slow mode, the poles lie at least as near as if it did not turn.
        least = -LEAST_RESOLVED * 2 * jnp.pi * rate / len(steps)
        return jnp.where(growth_rate(_modes(system)) < least, total, jnp.nan)


def _coloured(network: Network) -> list[int]:
    """Which rows of the noise of a `NetworkSystem` decay, and so have states of their own."""
    kinds = [
        isinstance(process, OrnsteinUhlenbeck)
        for which, process in enumerate(network.noise)
        for _ in network.noise_targets(which)
    ]
    return [row for row, decays in enumerate(kinds) if decays]


def _few_states(network: Network) -> bool:
    """Whether the covariance of all states, those of the noise included, is soon worked out."""
    states = len(network.states) + len(_coloured(network))
    return not network.delayed and network.n_nodes * states <= MOST_STATES


def _by_lyapunov(
    system: NetworkSystem, coloured: Sequence[int], lag: jax.Array | None
) -> jax.Array:
    """Covariance of activity of a network without delays, whose noise has states of its own."""
    n, k, _ = system.entry.shape
    kept, white = np.array(coloured, int), np.delete(np.arange(len(system.noise)), coloured)
    # Processes of a standard deviation of 1, each into its node.
    driven = jnp.einsum("pna,nj->napj", system.noise[kept], jnp.eye(n))
    decay = 1 / system.tau[kept].ravel()
    matrix = jnp.block([
        [system.matrix(), driven.reshape(n * k, -1)],
        [jnp.zeros((len(decay), n * k)), -jnp.diag(decay)],
    ])  # fmt: skip
    sudden = system.noise[white]
    power = jnp.einsum("pna,pnb,nj->najb", sudden, sudden, jnp.eye(n)).reshape(n * k, n * k)
    power = jax.scipy.linalg.block_diag(power, jnp.diag(2 * decay))
    whole = stationary_covariance(matrix, power)
    if lag is not None:
        later = jax.scipy.linalg.expm(jnp.abs(lag) * matrix) @ whole
        whole = jnp.where(lag >= 0, later, later.T)
    seen = (system.seen[:, :, None] * jnp.eye(n)[:, None, :]).reshape(n * k, n)
    return seen.T @ whole[: n * k, : n * k] @ seen


def _middle_rate(matrix: jax.Array) -> jax.Array:
    """Geometric mean of the sizes of the eigenvalues, 1/s, whatever the units of the states."""
    return jnp.exp(jnp.linalg.slogdet(matrix)[1] / len(matrix))


def _middle_frequency(system: NetworkSystem) -> jax.Array:
    """The frequency at which a node by itself has decayed, Hz: half of the points lie below."""
    return _middle_rate(jax.lax.stop_gradient(system.local).mean(0)) / (2 * jnp.pi)


def _modes(system: NetworkSystem) -> jax.Array:
    """The Jacobian, whose eigenvalues are those of the network; of delays, the first order."""
    matrix = jax.lax.stop_gradient(system.matrix())
    if system.delays is not None:
        n, k, _ = system.entry.shape
        delays = jnp.repeat(jnp.repeat(jax.lax.stop_gradient(system.delays), k, 0), k, 1)
        matrix = jnp.linalg.solve(jnp.eye(n * k) + delays * matrix, matrix)
    return matrix


def _stable(system: NetworkSystem) -> jax.Array:
    """Whether rest is stable; with delays, those of first order count."""
    return is_stable(_modes(system))


@partial(jax.jit, static_argnums=0)
def _modes_of(network: ByValue[Network], parameters: Parameters) -> tuple[jax.Array, ...]:
    system = network_system(network.value, parameters)
    return _modes(system), _middle_frequency(system)


def resolving_points(network: Network, parameters: Parameters, lag: float = 0.0) -> int:
    """How many frequencies resolve the resonances of a network, and what is a lag apart.

    Parameters
    ----------
    network : Network
        With noise.
    parameters : mapping
        Full arrays by name.
    lag : float
        Seconds.

    Returns
    -------
    int
        Of `POINTS`; the most, and a warning, where more are needed.
    """
    if _few_states(network):
        return POINTS[0]
    # Where a function of the caller's is traced, too, since the number of points is static.
    with jax.ensure_compile_time_eval():
        modes, middle = (np.asarray(each) for each in _modes_of(ByValue(network), parameters))
    if not np.isfinite(modes).all():
        return POINTS[0]
    rates = np.linalg.eigvals(modes)
    # Where spectra have poles, on the circle on which points are even.
    width = np.abs(np.arctan(rates / (2j * np.pi * middle)).imag)
    narrowest = int(width.argmin())
    needed = max(RESOLVED / max(width[narrowest], 1e-300), LAG_RESOLVED * abs(lag) * middle)
    enough = [points for points in POINTS if points >= needed]
    if not enough and rates.real.max() < 0:
        why = f"the lag of {lag:g} s is long"
        if width[narrowest] * POINTS[-1] < RESOLVED:
            rate = rates[narrowest]
            why = (
                f"the network resonates at {abs(rate.imag) / (2 * np.pi):.3g} Hz and is damped by "
                f"no more than {-rate.real:.3g} per second"
            )
        warn_caller(
            f"{POINTS[-1]} frequencies do not resolve the covariance of this network ({why}), so "
            "that it may be wrong; take parameters farther from where rest is unstable, a shorter "
            "lag, or simulate"
        )
    return enough[0] if enough else POINTS[-1]


def tracts(network: Network, design: Any) -> dict[str, Any]:
    """Weights and lengths of the connectome of a data set, or else of the network.

    Parameters
    ----------
    network : Network
        The network.
    design : CovarianceData, SpectralData or None
        What may have a connectome.
    """
    source = getattr(design, "connectome", None) or network
    lengths = np.asarray(source.lengths, float) if network.delayed else network.lengths
    return {"weights": np.asarray(source.weights, float), "lengths": lengths}


def check_network(neural: Any) -> None:
    """Raise an error unless a neural model is a network that noise drives.

    Parameters
    ----------
    neural : NeuralModel
        Any.

    Raises
    ------
    TypeError, ValueError
        If it is another model, or has no noise.
    """
    if not isinstance(neural, Network):
        raise TypeError(
            f"neural must be a network, got {type(neural).__name__}; LinearResponse is for other "
            "neural models"
        )
    if not neural.noise:
        raise ValueError(
            "noise is None, but without noise nothing fluctuates; give noise=White(...) or "
            "OrnsteinUhlenbeck(...)"
        )
