"""What a first use costs: compiling, tracing, and what is found on disk.

Measures, each in processes of their own and with an empty folder of compiled programs: the first
``fit(model, data, "laplace")`` on the bundled example, the first ``diagnose()`` after it, the same
in a second process, and ``bayesdcm demo`` twice. CPU seconds are those of the process, of all its
threads; where others use the machine they are the number to look at, and still grow by a half.
Importing the package is stated apart.

    python ci/benchmarks/first_use.py [--demo] [--path CHECKOUT ...]

Checkouts of other versions, one after the other, are measured in the same run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIT = """
import json, time
begun = time.process_time(), time.perf_counter()
times = {}
def stop(name):
    global begun
    now = time.process_time(), time.perf_counter()
    times[name] = [after - before for before, after in zip(begun, now)]
    begun = now
import jax
compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: compiled.append(name.endswith("backend_compile_duration"))
)
import bayesdcm
import bayesdcm.infer, bayesdcm.models
example = bayesdcm.load_example("attention")
bayesdcm.fit
stop("import")
fit = bayesdcm.fit(example.model, example.data, "laplace")
stop("fit")
programs = [sum(compiled)]
fit.diagnose()
stop("diagnose")
assert bayesdcm.__file__.startswith(CHECKOUT), bayesdcm.__file__
print(json.dumps([times, fit.log_evidence, [*programs, sum(compiled)]]))
"""
VARIABLES = ("JAX_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE", "XLA_FLAGS", "JAX_ENABLE_X64")


def environment(checkout: Path, folder: str) -> dict[str, str]:
    """The environment without settings of JAX, with a cache folder and a checkout of its own."""
    kept = {name: v for name, v in os.environ.items() if not name.startswith(VARIABLES)}
    own = {"XDG_CACHE_HOME": folder, "PYTHONPATH": str(checkout), "MPLBACKEND": "Agg"}
    return kept | own


def run(code: str, environ: dict[str, str], folder: str) -> subprocess.CompletedProcess:
    """Run code in a process of its own, elsewhere: Python imports from where it is first."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environ, cwd=folder, check=True, capture_output=True)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", action="store_true", help="time `bayesdcm demo`, too")
    parser.add_argument("--path", type=Path, nargs="+", default=[Path(__file__).parents[2]])
    arguments = parser.parse_args()
    for checkout in arguments.path:
        print(f"\n{checkout}")
        with tempfile.TemporaryDirectory() as folder:
            environ = environment(checkout.resolve(), folder)
            for number in ("first", "second"):
                code = f"CHECKOUT = {str(checkout.resolve())!r}\n{FIT}"
                done = run(code, environ, folder)
                times, evidence, programs = json.loads(done.stdout.splitlines()[-1])
                for name, (cpu, wall) in times.items():
                    print(f"{number} process, {name:8} {cpu:6.2f} CPU s {wall:6.2f} s")
                print(f"{number} process: {programs} programs, free energy {evidence!r}")
        with tempfile.TemporaryDirectory() as folder:
            environ = environment(checkout.resolve(), folder)
            for number in ("first", "second") if arguments.demo else ():
                before, start = os.times(), time.perf_counter()
                demo = f"import sys; sys.argv[1:] = ['demo', '--out', '{folder}/demo']"
                run(
                    f"{demo}; from bayesdcm.cli import app; app(standalone_mode=False)",
                    environ,
                    folder,
                )
                after, wall = os.times(), time.perf_counter() - start
                cpu = sum(after[2:4]) - sum(before[2:4])
                print(f"{number} demo {cpu:6.1f} CPU s {wall:6.1f} s")


if __name__ == "__main__":
    main()
