"""Import of the package: what it costs, what it sets, what it offers."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import mne
import numpy as np
import pytest

import bayesdcm
from bayesdcm import _configuration
from bayesdcm._configuration import (
    enable_float64,
    merge_generator,
    merge_scheduler,
    merge_xla_flags,
    set_xla_flags,
)

ROOT = Path(__file__).parents[1]
THRESHOLD = "xla_cpu_small_while_loop_byte_threshold=100000000"
# What is added to flags after the threshold, with this version of jaxlib.
SCHEDULER_FLAG = merge_scheduler("-", _configuration.jaxlib_version())[1:]
GENERATOR_FLAG = merge_generator("-", _configuration.jaxlib_version())[1:]
ADDED = f"{THRESHOLD}{SCHEDULER_FLAG}{GENERATOR_FLAG}"


def run_python(code, **environ):
    """Run code in a fresh interpreter without this process's settings of JAX; return its output."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("JAX_ENABLE_X64", "XLA_FLAGS")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | {"JAX_PLATFORMS": "cpu"} | environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"--xla_backend_extra_options={THRESHOLD}"),
        ("--xla_a=1", f"--xla_a=1 --xla_backend_extra_options={THRESHOLD}"),
        ("  --xla_a=1 ", f"--xla_a=1 --xla_backend_extra_options={THRESHOLD}"),
        (
            "--xla_backend_extra_options=xla_a=1,xla_b --xla_c=2",
            f"--xla_backend_extra_options=xla_a=1,xla_b,{THRESHOLD} --xla_c=2",
        ),
        (
            '--xla_c=2 --xla_backend_extra_options="xla_a=1"',
            f'--xla_c=2 --xla_backend_extra_options="xla_a=1,{THRESHOLD}"',
        ),
        ("--xla_backend_extra_options=", f"--xla_backend_extra_options={THRESHOLD}"),
    ],
)
def test_the_threshold_joins_what_the_user_set(before, after):
    assert merge_xla_flags(before) == after
    assert merge_xla_flags(after) == after


@pytest.mark.parametrize(
    "flags",
    [
        "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=7",
        "--xla_a --xla_backend_extra_options=xla_b,xla_cpu_small_while_loop_byte_threshold=7",
        "flags.txt",
    ],
)
def test_a_threshold_or_a_file_of_the_users_stays(flags):
    assert merge_xla_flags(flags) == flags


def test_the_environment_is_set():
    environ = {"XLA_FLAGS": "--xla_a=1", "OTHER": "kept"}
    enable_float64(environ)
    set_xla_flags(environ)
    assert environ == {
        "JAX_ENABLE_X64": "1",
        "OTHER": "kept",
        "XLA_FLAGS": f"--xla_a=1 --xla_backend_extra_options={ADDED}",
    }


@pytest.mark.parametrize(
    "flags",
    [
        "--xla_cpu_enable_concurrency_optimized_scheduler=true",
        "--xla_cpu_scheduler_type=CPU_SCHEDULER_TYPE_CONCURRENCY_OPTIMIZED",
        "flags.txt",
    ],
)
def test_a_schedule_or_a_file_of_the_users_stays(flags):
    assert merge_scheduler(flags, (0, 10, 2)) == flags


@pytest.mark.parametrize("version", [(), (0, 6, 9), (0, 11, 0), (1, 0)])
def test_flags_are_left_to_versions_that_were_not_tried(version):
    assert merge_scheduler("", version) == merge_generator("", version) == ""


def test_a_generator_of_the_users_stays():
    flags = "--xla_cpu_use_fusion_emitters=true"
    assert merge_generator(flags, (0, 10, 2)) == flags


def test_the_version_of_jaxlib_is_found():
    stated = importlib.metadata.version("jaxlib").split(".")
    assert _configuration.jaxlib_version()[:3] == tuple(int(part) for part in stated[:3])


@pytest.mark.slow
@pytest.mark.skipif(not SCHEDULER_FLAG, reason="a version of jaxlib that was not tried")
def test_linear_algebra_of_many_matrices_ends():
    """Without the flag this waits forever within a second or so, where there are few cores."""
    code = """
import bayesdcm, jax, jax.numpy as jnp
matrices = jax.random.normal(jax.random.key(0), (4, 16, 60, 60)) + 10 * jnp.eye(60)
def step(_, x):
    return sum(jnp.linalg.solve(m + 1e-3 * x, jnp.ones((16, 60, 1))).mean() for m in matrices)
print(bool(jnp.isfinite(jax.jit(lambda: jax.lax.fori_loop(0, 300, step, 0.0))())))
"""
    assert run_python(code) == "True"


def test_overruling_single_precision_is_said(caplog):
    environ = {"JAX_ENABLE_X64": "False"}
    enable_float64(environ)
    assert environ["JAX_ENABLE_X64"] == "1"
    assert "double precision" in caplog.text


def test_a_late_threshold_is_logged(monkeypatch, caplog):
    monkeypatch.setattr(_configuration, "_backend_has_started", lambda: True)
    with caplog.at_level("DEBUG", logger="bayesdcm"):
        set_xla_flags({})
    assert "no effect in this process" in caplog.text


def test_the_private_question_to_jax_still_has_an_answer():
    code = (
        "import bayesdcm, jax; from bayesdcm._configuration import _backend_has_started as started;"
        "before = started(); jax.numpy.zeros(1); print(before, started())"
    )
    assert run_python(code) == "False True"


@pytest.mark.parametrize(
    "environ", [{"BAYESDCM_KEEP_XLA_FLAGS": "1"}, {"BAYESDCM_KEEP_XLA_FLAGS": "0"}, {}]
)
def test_xla_flags_can_be_left_alone(environ):
    printed = run_python("import bayesdcm, os; print(os.environ.get('XLA_FLAGS'))", **environ)
    assert (printed == "None") == (environ == {"BAYESDCM_KEEP_XLA_FLAGS": "1"})


def test_import_leaves_jax_alone():
    heavy = "{'jax', 'numpyro', 'arviz', 'mne', 'matplotlib', 'scipy', 'pandas', 'numpy'}"
    assert run_python(f"import bayesdcm, sys; print({heavy} & set(sys.modules))") == "set()"


@pytest.mark.parametrize(
    "imports",
    [
        "import bayesdcm, jax",
        pytest.param("import jax, bayesdcm", marks=pytest.mark.exhaustive),
        "import jax.numpy, bayesdcm",
        "import jax; jax.numpy.zeros(1) + 1; import bayesdcm",
    ],
)
def test_double_precision_whichever_comes_first(imports):
    assert run_python(f"{imports}; print(jax.numpy.zeros(1).dtype)") == "float64"


@pytest.mark.skipif(
    not (ROOT / "bayesdcm" / "cli.py").exists(), reason="the shell commands are still to come"
)
def test_help_leaves_jax_alone():
    code = (
        "import sys; from typer.testing import CliRunner; from bayesdcm.cli import app;"
        "result = CliRunner().invoke(app, ['--help']);"
        "print(result.exit_code, {'jax', 'numpyro', 'arviz', 'mne'} & set(sys.modules))"
    )
    assert run_python(code) == "0 set()"


def test_fitting_leaves_figures_alone():
    code = "import bayesdcm, sys; bayesdcm.fit; print({'arviz', 'matplotlib'} & set(sys.modules))"
    assert run_python(code) == "set()"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = bayesdcm.no_such_name


def test_the_stub_lists_what_it_imports():
    stub = ast.parse((ROOT / "bayesdcm" / "__init__.pyi").read_text())
    imported = [a.name for n in stub.body if isinstance(n, ast.ImportFrom) for a in n.names]
    listed = next(n.value for n in stub.body if isinstance(n, ast.Assign))
    assert sorted(imported) == ast.literal_eval(listed) == sorted(bayesdcm.__all__)


def test_the_changelog_knows_the_version():
    assert bayesdcm.__version__ in (ROOT / "CHANGELOG.md").read_text()


def python_examples(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def evoked_response(comment, amplitude):
    """A peak at 100 ms at 32 electrodes, in V, with noise."""
    montage = mne.channels.make_standard_montage("biosemi32")
    info = mne.create_info(montage.ch_names, 128.0, "eeg").set_montage(montage)
    height = np.array([position[2] for position in montage.get_positions()["ch_pos"].values()])
    times = np.arange(-13, 52) / 128
    peak = np.exp(-(((times - 0.1) / 0.03) ** 2) / 2)
    noise = np.random.default_rng(1).normal(size=(len(height), len(times)))
    signal = amplitude * height[:, None] / height.max() * peak + 2e-7 * noise
    return mne.EvokedArray(signal, info, times[0], comment=comment, verbose=False)


@pytest.mark.exhaustive
def test_the_readme_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = python_examples("README.md")
    assert examples
    # Whether the examples run is asked here; the methods have tests of their own.
    short = {
        "laplace": {"max_iterations": 4},
        "svi": {"steps": 50, "draws": 50},
        "nuts": {"chains": 2, "warmup": 20, "draws": 20},
    }
    whole = bayesdcm.fit

    def fit(*arguments, method="laplace", **options):
        return whole(*arguments, method=method, **short[method], **options)

    monkeypatch.setattr(bayesdcm, "fit", fit)
    # What the reader has recorded; what one example imports, the next has.
    names = {
        "standard": evoked_response("standard", 4e-6),
        "deviant": evoked_response("deviant", 6e-6),
    }
    for example in examples:
        exec(compile(example, "README.md", "exec"), names)
