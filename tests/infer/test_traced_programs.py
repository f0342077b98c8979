"""Traced programs on disk: a second process traces nothing, and nothing stale is found."""

import gc
import json
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bayesdcm
from bayesdcm.infer import traced_programs
from bayesdcm.infer.problem import ModelSource
from bayesdcm.infer.threads import on_one_thread
from bayesdcm.infer.traced_programs import MOST_FILES, traced_once
from tests.test_compiled_programs import run_python

FIT = """
import collections, json, jax, numpy as np, bayesdcm
seconds = collections.Counter()
jax.monitoring.register_event_duration_secs_listener(
    lambda name, s, **about: seconds.update({name.split("/")[-1]: 1})
    if about.get("fun_name") in ("flat", "run_laplace") else None
)
model = bayesdcm.TaskDCM(np.array([[1, 0], [1, 1]]), C=np.array([[1], [0]]), integrator="bilinear")
boxcar = (np.arange(320) // 40 % 2)[:, None].astype(float)
signal = np.random.default_rng(0).standard_normal((40, 2))
data = bayesdcm.BoldData(signal, 2.0, boxcar, 0.25, ["V1", "V5"])
fit = bayesdcm.fit(model, data, "laplace")
print(json.dumps([fit.log_evidence, seconds["jaxpr_trace_duration"]]))
"""


@pytest.mark.slow
def test_a_second_process_traces_no_program_and_has_the_same_numbers(tmp_path):
    (first, _), (second, said) = (
        run_python(
            FIT, XDG_CACHE_HOME=str(tmp_path), XLA_FLAGS="--xla_backend_optimization_level=0"
        )
        for _ in range(2)
    )
    (evidence, traced), (again, traced_again) = json.loads(first[-1]), json.loads(second[-1])
    assert evidence == again
    assert traced > 0
    assert traced_again == 0
    assert said == ""
    kept = [path.name for path in (tmp_path / "bayesdcm" / "traced").iterdir()]
    assert sum(name.startswith("run_laplace-") for name in kept) == 1


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(traced_programs, "_folder", lambda: tmp_path)
    return tmp_path


MODEL = bayesdcm.TaskDCM(np.ones((2, 2), int), C=np.ones((2, 1), int))


def scaled(source, sites, setting, x):
    """A stand-in for a function of a model."""
    return {"y": jnp.linalg.inv(setting * x * source.model.A.sum())}


def test_what_is_read_back_gives_the_same(folder):
    arguments = (ModelSource(MODEL), (), 2.0, np.eye(2))
    value = traced_once(3)(scaled)(*arguments)["y"]
    (path,) = folder.iterdir()

    def never(*_):
        raise AssertionError("traced again")

    never.__module__, never.__qualname__, never.__name__ = (
        scaled.__module__, scaled.__qualname__, scaled.__name__,
    )  # fmt: skip
    np.testing.assert_array_equal(traced_once(3)(never)(*arguments)["y"], value)
    np.testing.assert_allclose(value, np.eye(2) / 8)
    path.write_bytes(b"not a program")
    np.testing.assert_array_equal(traced_once(3)(scaled)(*arguments)["y"], value)
    assert path.read_bytes() != b"not a program"


@dataclass(frozen=True, eq=False)
class OwnModel:
    """A model of a user's, whose code has no name here."""

    A: np.ndarray


@pytest.mark.parametrize(
    ("changed", "files"),
    [
        ((ModelSource(MODEL), (), 2.0, np.ones((2, 2)) + np.eye(2)), 1),
        ((ModelSource(replace(MODEL, integrator="bilinear")), (), 2.0, np.eye(2)), 2),
        ((ModelSource(MODEL.with_priors({"C[region 1, input 1]": (0, 2)})), (), 2.0, np.eye(2)), 2),
        ((ModelSource(MODEL), ("site",), 2.0, np.eye(2)), 2),
        ((ModelSource(MODEL), (), 3.0, np.eye(2)), 2),
        ((ModelSource(MODEL), (), 2.0, np.eye(3)), 2),
        ((ModelSource(OwnModel(MODEL.A)), (), 2.0, np.eye(2)), 1),
    ],
)
def test_a_program_is_found_by_all_that_it_depends_on(changed, files, folder):
    traced_once(3)(scaled)(ModelSource(MODEL), (), 2.0, np.eye(2))
    value = traced_once(3)(scaled)(*changed)["y"]
    source, _, setting, x = changed
    np.testing.assert_allclose(value, np.linalg.inv(setting * x * np.sum(source.model.A)))
    assert len(list(folder.iterdir())) == files


def test_code_and_settings_are_among_them(folder, monkeypatch):
    arguments = (ModelSource(MODEL), (), 2.0, np.eye(2))
    traced_once(3)(scaled)(*arguments)
    monkeypatch.setattr(traced_programs, "_package", lambda: "changed")
    traced_once(3)(scaled)(*arguments)
    with jax.default_matmul_precision("highest"):
        traced_once(3)(scaled)(*arguments)
    assert len(list(folder.iterdir())) == 3
    with jax.debug_nans(True):
        traced_once(3)(scaled)(*arguments[:2], 5.0, np.eye(2))
    assert len(list(folder.iterdir())) == 3


def test_the_files_used_last_are_kept(folder):
    for number in range(MOST_FILES + 5):
        traced_programs._write(folder / f"{number:03}", b"")
    assert len(list(folder.iterdir())) == MOST_FILES


def test_inside_other_programs_it_is_traced(folder):
    program = traced_once(3)(scaled)
    x = np.stack([np.eye(2), 2 * np.eye(2)])
    many = jax.vmap(lambda row: program(ModelSource(MODEL), (), 2.0, row)["y"])(x)
    np.testing.assert_allclose(many, np.linalg.inv(8 * x))
    assert not list(Path(folder).iterdir())


def test_compiler_options_may_depend_on_what_is_static():
    asked = []

    def options(source, n):
        asked.append(n)
        return on_one_thread() if n < 3 else None

    @traced_once(2, options)
    def scaled(source, n, x):
        return n * x

    assert [float(scaled("a user's program", n, jnp.ones(()))) for n in (2, 3, 2)] == [2, 3, 2]
    assert asked == [2, 3, 2]
    assert scaled.n_compiled == 2
    # Programs within others have none of their own.
    assert float(jax.jit(lambda x: scaled("a user's program", 2, x))(jnp.ones(()))) == 2
    assert len(asked) == 3


def test_garbage_is_collected_again_after_tracing():
    @traced_once(1)
    def watched(source, x):
        collecting.append(gc.isenabled())
        return x + 1

    collecting: list[bool] = []
    assert gc.isenabled()
    for function in (watched, watched.program):
        function("a user's program", jnp.ones(2))
    assert collecting[0] is False
    assert gc.isenabled()
    with pytest.raises(TypeError):
        watched("a user's program", jnp.ones(2), None)
    assert gc.isenabled()
    gc.disable()
    try:
        watched("a user's program", jnp.ones(3))
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.skipif(not traced_programs.MAPS.exists(), reason="only Linux limits memory maps")
def test_programs_are_forgotten_before_the_system_ends_the_process(monkeypatch):
    @traced_once(1)
    def doubled(source, x):
        return 2 * x

    forgotten: list[str] = []
    monkeypatch.setattr(jax, "clear_caches", lambda: forgotten.append("all"))
    monkeypatch.setattr(traced_programs, "NOT_SHORT", 0.0)
    doubled("a user's program", jnp.ones(2))
    assert not forgotten
    monkeypatch.setattr(traced_programs, "MOST_MAPS", 0.0)
    doubled("a user's program", jnp.ones(2))  # compiles nothing
    assert not forgotten
    assert doubled("a user's program", jnp.ones(3)).tolist() == [2, 2, 2]
    doubled.program("a user's program", jnp.ones(4))
    assert len(forgotten) == 2
    # Some systems let nobody read them.
    monkeypatch.setattr(traced_programs, "MAPS", Path("/missing"))
    assert doubled("a user's program", jnp.ones(5)).sum() == 10 and len(forgotten) == 2
