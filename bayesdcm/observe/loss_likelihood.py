"""Observations that are judged by a loss, in place of the density of some noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints

__all__ = ["LossLikelihood"]


class LossLikelihood(dist.Distribution):
    """A density of data that falls with a loss, ``exp(-loss(prediction, data) / unit)``.

    What is known of a model is no more than how well its predictions agree with data. The density
    is not normalised over data, so there is no evidence; the posterior that it gives is that of
    the loss [1]_, and its `unit` says how much data weigh against the prior.

    Parameters
    ----------
    predictions : jax.Array
        Shape (repetitions, ...): of several simulations with other noise; the loss is the mean
        over them.
    loss : callable
        Of one prediction and the data, a number, smaller where they agree better.
    unit : float
        Loss that counts as one nat.

    References
    ----------
    .. [1] Bissiri, Holmes and Walker (2016), J R Stat Soc B 78:1103.
           https://doi.org/10.1111/rssb.12158

    Examples
    --------
    >>> judged = LossLikelihood(jnp.ones((1, 2)), lambda a, b: ((a - b) ** 2).mean(), 0.5)
    >>> float(judged.log_prob(jnp.zeros(2)))
    -2.0
    """

    arg_constraints: ClassVar[dict] = {}
    pytree_data_fields = ("predictions", "unit")
    pytree_aux_fields = ("loss",)

    def __init__(
        self,
        predictions: jax.Array,
        loss: Callable[[jax.Array, jax.Array], jax.Array],
        unit: float,
    ) -> None:
        self.predictions, self.loss, self.unit = predictions, loss, unit
        super().__init__((), jnp.shape(predictions)[1:])

    @property
    def support(self) -> Any:
        """All arrays of real numbers in the shape of the prediction."""
        return constraints.independent(constraints.real, self.event_dim)

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """The mean prediction: there is no noise.

        Parameters
        ----------
        key : jax.Array
            Not used.
        sample_shape : tuple of int
            Of the samples, all equal.
        """
        del key
        return jnp.broadcast_to(self.predictions.mean(0), sample_shape + self.event_shape)

    def log_prob(self, value: jax.Array) -> jax.Array:
        """Minus the loss in its unit, ().

        Parameters
        ----------
        value : jax.Array
            Data, in the shape of a prediction.
        """
        return -jax.vmap(lambda each: self.loss(each, value))(self.predictions).mean() / self.unit
