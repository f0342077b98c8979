"""The generic two-dimensional oscillator: a cubic and a quadratic nullcline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from bayesdcm.neural.base import Parameters
from bayesdcm.neural.node import NetworkNode, by_state, constant
from bayesdcm.neural.roots import lowest_root

PER_MS = 1e3


@dataclass(frozen=True, eq=False, kw_only=True)
class Generic2dOscillator(NetworkNode):
    """A fast and a slow variable with a cubic and a quadratic nullcline (generic oscillator).

    ``V' = d tau (-f V^3 + e V^2 + g V + alpha W + gamma I)`` and
    ``W' = d / tau (a + b V + c V^2 - beta W)``, per ms. By its constants it is excitable, bistable
    or an oscillator, as those of FitzHugh and Nagumo are; the defaults are excitable.

    References
    ----------
    .. [1] Sanz-Leon, Knock, Spiegler and Jirsa (2015), NeuroImage 111:385.
           https://doi.org/10.1016/j.neuroimage.2015.01.002

    Examples
    --------
    >>> Generic2dOscillator().rest().round(4).tolist()
    [[-0.1887, -0.1135]]
    """

    tau: ArrayLike = constant(1.0, "1", "root of the ratio of the time constants of W and V")
    d: ArrayLike = constant(0.02, "1/ms", "rate of both")
    a: ArrayLike = constant(-2.0, "1", "constant term of W", positive=False)
    b: ArrayLike = constant(-10.0, "1", "linear term of W", positive=False)
    c: ArrayLike = constant(0.0, "1", "quadratic term of W", positive=False)
    e: ArrayLike = constant(3.0, "1", "quadratic term of V", positive=False)
    f: ArrayLike = constant(1.0, "1", "cubic term of V")
    g: ArrayLike = constant(0.0, "1", "linear term of V", positive=False)
    alpha: ArrayLike = constant(1.0, "1", "from W to V", positive=False)
    beta: ArrayLike = constant(1.0, "1", "decay of W")
    gamma: ArrayLike = constant(1.0, "1", "from what is received to V", positive=False)

    states: ClassVar[tuple[str, ...]] = ("V", "W")
    signals: ClassVar[tuple[str, ...]] = ("V", "W")
    afferents: ClassVar[tuple[str, ...]] = ("I",)
    state_units: ClassVar[Mapping[str, str]] = {"V": "1", "W": "1"}
    title: ClassVar[str] = "generic two-dimensional oscillator"
    citation: ClassVar[tuple[str, str]] = (
        "Sanz-Leon P, Knock SA, Spiegler A, Jirsa VK (2015). Mathematical framework for "
        "large-scale brain network modeling in The Virtual Brain. NeuroImage 111:385-430.",
        "https://doi.org/10.1016/j.neuroimage.2015.01.002",
    )

    def local(
        self, x: jax.Array, received: jax.Array, u: jax.Array, parameters: Parameters
    ) -> jax.Array:
        """Rate of change of the states, see `bayesdcm.neural.NodeModel.local`."""
        p, (v, w), current = parameters, x.T, received[0]
        cubic = v * (v * (p["e"] - p["f"] * v) + p["g"])
        quadratic = p["a"] + v * (p["b"] + p["c"] * v)
        rates = [
            PER_MS * p["d"] * p["tau"] * (cubic + p["alpha"] * w + p["gamma"] * current),
            PER_MS * p["d"] / p["tau"] * (quadratic - p["beta"] * w),
        ]
        return jnp.stack(rates, axis=1)

    def rest(self, parameters: Parameters | None = None) -> jax.Array:
        """The fixed point with the lowest V, see `NetworkNode.rest`."""
        p = self.constants(parameters)
        by_w = p["alpha"] / p["beta"]
        # -f V^3 + q_2 V^2 + q_1 V + q_0 with W at its nullcline; Cauchy's bound of its roots.
        q = [by_w * p["a"], p["g"] + by_w * p["b"], p["e"] + by_w * p["c"]]
        bound = 1 + sum(jnp.abs(each) for each in q) / p["f"]

        def flow(v: jax.Array) -> jax.Array:
            return q[0] + v * (q[1] + v * (q[2] - p["f"] * v))

        v = lowest_root(flow, -bound, bound)
        return by_state(v, (p["a"] + v * (p["b"] + p["c"] * v)) / p["beta"])
