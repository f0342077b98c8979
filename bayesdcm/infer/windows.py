"""Training of a recurrence window by window: an epoch as one program, for all starts at once."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from bayesdcm.infer.density import Layout
from bayesdcm.infer.recurrence import ByStep, Recurrence, about
from bayesdcm.infer.traced_programs import traced_once

# Directions of descent; each is taken as long as the rate says.
OPTIMISERS = {"adam": optax.scale_by_adam, "rmsprop": optax.scale_by_rms, "paper": optax.identity}
# The published rule: a gradient of which the largest entry is 1, halved while the loss rises.
PAPER = "paper"
MOST_HALVINGS = 16
# Newton steps on log-precisions, and the longest of each.
NEWTON_STEPS, LONGEST = 25, 2.0
# By how much log-precisions of training may rise in an epoch.
PACE = 0.1


class Plan(NamedTuple):
    """What compiled code depends on.

    Attributes
    ----------
    source, sites
        Of the problem.
    window, stride : int
        Length of a window, and from one to the next, in steps.
    burn_in : int
        First windows of an epoch after which nothing is changed.
    optimiser : str or optax.GradientTransformation
        One of `OPTIMISERS`, or another.
    """

    source: Any
    sites: Layout
    window: int
    stride: int
    burn_in: int
    optimiser: Any

    def count(self, n_steps: int) -> int:
        """Windows of a run of so many steps."""
        return 1 + -(-max(n_steps - self.window, 0) // self.stride)

    def padded(self, n_steps: int) -> int:
        """Steps of all windows."""
        return (self.count(n_steps) - 1) * self.stride + self.window


class Given(NamedTuple):
    """Arrays that training takes.

    Attributes
    ----------
    prepared : pytree
        Of the problem.
    centre, unit : (parameters,)
        Parameters are ``centre + unit * at``.
    levels : (levels, inputs)
        Inputs under which the model is to be stable.
    """

    prepared: Any
    centre: jax.Array
    unit: jax.Array
    levels: jax.Array


class Course(NamedTuple):
    """Where starts are between two epochs; each leaf has a leading axis of starts.

    Attributes
    ----------
    at : (parameters,)
        Parameters, see `Given`.
    mean : (parameters,)
        The mean over the windows of an epoch, whose densities count: single steps are noisy.
    log_precision : (precisions,)
        The precision sites, at their best for `mean`.
    weight : (precisions,)
        Those that windows are weighed with, which follow them up at `PACE`: where one region is
        fitted before the others, steps would go along what keeps it so.
    memory : tuple of arrays
        State of the optimiser.
    seen : (steps, regions)
        What the recurrence gives before each step.
    """

    at: jax.Array
    mean: jax.Array
    log_precision: jax.Array
    weight: jax.Array
    memory: tuple
    seen: jax.Array


class Training:
    """The functions of one start; to be traced.

    Parameters
    ----------
    plan : Plan
        What is static.
    given : Given
        Arrays.
    """

    def __init__(self, plan: Plan, given: Given) -> None:
        self.plan, self.given = plan, given
        self.recurrence = Recurrence(plan.source, plan.sites, given.prepared)
        self.n_windows = plan.count(len(self.recurrence.steps.inputs))
        self.n_steps = plan.padded(len(self.recurrence.steps.inputs))
        known = isinstance(plan.optimiser, str)
        self.optimiser = OPTIMISERS[plan.optimiser]() if known else plan.optimiser
        # Optax gives the change itself, which points downhill.
        self.sign = -1.0 if known else 1.0
        first = self.optimiser.init(jnp.zeros_like(given.centre))
        self.first_memory, self.tree = jax.tree.flatten(first)

    def vector(self, at: jax.Array, log_precision: jax.Array) -> jax.Array:
        """The flat vector of the program."""
        return jnp.concatenate([self.given.centre + self.given.unit * at, log_precision])

    def radius(self, vector: jax.Array) -> jax.Array:
        """Spectral radius of the neural recurrence, the largest under all levels of the inputs."""
        return self.recurrence.radius(self.recurrence.parameters(vector), self.given.levels)

    # The whole run

    def whole(self, at: jax.Array, log_precision: jax.Array) -> tuple[jax.Array, jax.Array, dict]:
        """Log-precisions that fit the residuals best, what is seen of all steps, and densities."""
        net = self.recurrence
        vector = self.vector(at, log_precision)
        cell, start = net.cell(net.parameters(vector)), net.start(net.parameters(vector))
        inputs = jnp.pad(net.steps.inputs, ((0, self.n_steps - len(net.steps.inputs)), (0, 0)))
        _, seen = jax.lax.scan(cell, start, inputs)
        prediction = net.at_scans(seen)

        def parts(h: jax.Array) -> tuple[jax.Array, jax.Array]:
            fn, value = net.observation(self.vector(at, h))
            log_likelihood = about(fn, prediction).log_prob(value)
            return log_likelihood, net.log_hyperprior(self.vector(at, h))

        log_precision = _highest(lambda h: sum(parts(h)), log_precision)
        log_likelihood, log_hyperprior = parts(log_precision)
        vector = self.vector(at, log_precision)
        joint = net.log_prior(vector) + log_hyperprior + log_likelihood
        finite = jnp.isfinite(joint) & jnp.isfinite(seen).all()
        record = {f"log_prior_{name}": value for name, value in net.log_priors(vector).items()}
        record |= {
            "log_joint": jnp.where(finite, joint, -jnp.inf),
            "log_likelihood": log_likelihood,
            "radius": self.radius(vector),
        }
        return log_precision, seen, record

    # A window

    def loss(
        self, vector: jax.Array, carry: jax.Array, data: ByStep, total: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Loss of a window, nats; the carry where the next window begins, and what is seen.

        Parameters
        ----------
        vector : (size,)
            Flat.
        carry : (nodes, states)
            Where the window begins.
        data : ByStep
            Of the steps of the window, confounds taken out of what was measured.
        total : ()
            Number of data points of the run, of which a window has its share of the prior.
        """
        net = self.recurrence
        cell = net.cell(net.parameters(vector))
        stride = self.plan.stride
        carry, first = jax.lax.scan(cell, carry, data.inputs[:stride])
        seen = first
        if stride < self.plan.window:
            _, rest = jax.lax.scan(cell, carry, data.inputs[stride:])
            seen = jnp.concatenate([first, rest])
        fn, _ = net.observation(vector)
        squares = data.weight * jax.lax.stop_gradient(fn.scales) * (data.measured - seen) ** 2
        share = data.weight.sum() / total
        return squares.sum() / 2 - share * net.log_prior(vector), (carry, seen)

    def epoch(self, course: Course, rate: jax.Array) -> tuple[Course, dict]:
        """All windows, and the whole run after them."""
        net, plan = self.recurrence, self.plan
        h = course.weight
        fn, value = net.observation(self.vector(course.at, h))
        data = net.by_step(value, self.n_steps)
        total = data.weight.sum()

        def confounds(seen: jax.Array) -> jax.Array:
            fitted = about(fn, net.at_scans(seen))
            return net.at_steps(fitted.fitted(value) - fitted.prediction, self.n_steps)

        def learn(state: tuple, k: jax.Array) -> tuple[tuple, tuple]:
            at, memory, carry, seen = state
            clean = data._replace(measured=data.measured - confounds(seen))
            begin = k * plan.stride
            rows = jax.tree.map(
                lambda each: jax.lax.dynamic_slice_in_dim(each, begin, plan.window), clean
            )

            def loss(at: jax.Array) -> tuple:
                return self.loss(self.vector(at, h), carry, rows, total)

            (now, (onward, window)), slope = jax.value_and_grad(loss, has_aux=True)(at)
            finite = jnp.isfinite(now) & jnp.isfinite(slope).all() & jnp.isfinite(onward).all()
            changes, later = self.optimiser.update(
                jnp.where(finite, slope, 0.0), jax.tree.unflatten(self.tree, memory), at
            )
            later = jax.tree.leaves(later)
            if plan.optimiser == PAPER:
                changes = changes / jnp.maximum(jnp.abs(changes).max(), 1e-300)
            change, halvings = self._guarded(at, self.sign * rate * changes, h, now, loss)
            learns = finite & (k >= plan.burn_in)
            at = jnp.where(learns, at + change, at)
            memory = [jnp.where(learns, new, old) for new, old in zip(later, memory, strict=True)]
            rest = net.start(net.parameters(self.vector(at, h)))
            carry = jnp.where(finite, onward, rest)
            written = jax.lax.dynamic_update_slice_in_dim(seen, window, begin, 0)
            counts = (learns & (halvings > 0), ~finite)
            return (at, memory, carry, jnp.where(finite, written, seen)), (at, *counts)

        carry = net.start(net.parameters(self.vector(course.at, h)))
        state = (course.at, list(course.memory), carry, course.seen)
        (at, memory, _, _), record = jax.lax.scan(learn, state, jnp.arange(self.n_windows))
        path, *counts = record
        mean = path[plan.burn_in :].mean(0)
        log_precision, seen, record = self.whole(mean, course.log_precision)
        record |= dict(zip(("shortened", "diverged"), (each.sum() for each in counts), strict=True))
        weight = jnp.minimum(log_precision, course.weight + PACE)
        return Course(at, mean, log_precision, weight, tuple(memory), seen), record

    def _guarded(
        self, at: jax.Array, change: jax.Array, h: jax.Array, now: jax.Array, loss: Any
    ) -> tuple[jax.Array, jax.Array]:
        """A change that keeps the recurrence stable, and how often it was halved for that."""

        def refused(change: jax.Array) -> jax.Array:
            unstable = ~(self.radius(self.vector(at + change, h)) < 1)
            if self.plan.optimiser != PAPER:
                return unstable
            return unstable | ~(loss(at + change)[0] <= now)

        def more(state: tuple) -> jax.Array:
            return state[2] & (state[1] < MOST_HALVINGS)

        def halve(state: tuple) -> tuple:
            shorter = state[0] / 2
            return shorter, state[1] + 1, refused(shorter)

        first = (change, jnp.zeros((), int), refused(change))
        change, halvings, bad = jax.lax.while_loop(more, halve, first)
        return jnp.where(bad, 0.0, change), halvings


def _highest(density: Any, start: jax.Array) -> jax.Array:
    """Where a sum of concave densities of one entry each is highest, by Newton's steps."""
    if not start.size:
        return start
    slope = jax.grad(density)

    def step(_: int, h: jax.Array) -> jax.Array:
        # Entries do not interact: a sum of columns is the diagonal.
        value, curvature = jax.jvp(slope, (h,), (jnp.ones_like(h),))
        change = jnp.clip(value / jnp.maximum(-curvature, 1e-10), -LONGEST, LONGEST)
        return h + jnp.where(jnp.isfinite(change), change, 0.0)

    return jax.lax.fori_loop(0, NEWTON_STEPS, step, start)


def _begin(plan: Plan, given: tuple, at: jax.Array, h: jax.Array) -> tuple[tuple, dict]:
    training = Training(plan, Given(*given))

    def of_start(row: tuple) -> tuple:
        h, seen, record = training.whole(*row)
        return (row[0], row[0], h, h, tuple(training.first_memory), seen), record

    return jax.vmap(of_start)((at, h))


def _epoch(plan: Plan, given: tuple, course: tuple, rate: jax.Array) -> tuple[tuple, dict]:
    training = Training(plan, Given(*given))

    def of_start(row: tuple) -> tuple:
        later, record = training.epoch(Course(*row[0]), row[1])
        return tuple(later), record

    return jax.vmap(of_start)((course, rate))


_kept = {function: traced_once(1)(function) for function in (_begin, _epoch)}
_traced = {function: partial(jax.jit, static_argnums=0)(function) for function in _kept}


def _run(function: Any, plan: Plan, *arrays: Any) -> Any:
    # Optimisers of a user's own are functions, which have no name in files.
    table = _kept if isinstance(plan.optimiser, str) else _traced
    return jax.block_until_ready(table[function](plan, *arrays))


def begin(plan: Plan, given: Given, at: NDArray, log_precision: NDArray) -> tuple[Course, dict]:
    """The course of starts (starts, parameters) before the first epoch, and its densities."""
    course, record = _run(_begin, plan, tuple(given), at, log_precision)
    return Course(*course), jax.tree.map(np.asarray, record)


def epoch(plan: Plan, given: Given, course: Course, rate: NDArray) -> tuple[Course, dict]:
    """The course of all starts an epoch later, and what happened: each entry (starts,)."""
    course, record = _run(_epoch, plan, tuple(given), tuple(course), rate)
    return Course(*course), jax.tree.map(np.asarray, record)
