# Sourced by the other scripts. Makes .venv-test with the package (editable) and everything that
# testing it needs, and enters it. Nothing outside this folder is changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ ! -x .venv-test/bin/python ]; then
  "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "bayesdcm needs Python 3.11 or later; name one by PYTHON=python3.12" >&2
    exit 2
  }
  "${PYTHON:-python3}" -m venv .venv-test
fi
# Installed again only when pyproject.toml changes: the installation is editable.
if ! cmp -s pyproject.toml .venv-test/installed-for.toml; then
  echo "Installing into .venv-test ..."
  # The pip that Python 3.11 comes with takes more than twice as long.
  .venv-test/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
  # Python compiles the modules that it imports; the other three quarters would take half a minute.
  .venv-test/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
    --editable '.[dev,docs]'
  cp pyproject.toml .venv-test/installed-for.toml
fi
PATH="$PWD/.venv-test/bin:$PATH"
export MPLBACKEND=Agg
# Progress bars need no widgets where nobody watches.
export PYTHONWARNINGS="ignore:IProgress not found"
# Both cores are busy: threads of NumPy's linear algebra would wait for work in loops, up to a sixth
# of the time.
export OPENBLAS_NUM_THREADS=1
# Programs that were compiled once serve all tests and scripts. With a largest size JAX would lock
# the folder and look at all of its files for each program: every compilation would wait, that of
# the other worker too. Half a file, which another process is writing, JAX compiles anew.
export JAX_COMPILATION_CACHE_DIR="$PWD/.venv-test/compiled"
export JAX_COMPILATION_CACHE_MAX_SIZE=-1
mkdir -p "$JAX_COMPILATION_CACHE_DIR"
find "$JAX_COMPILATION_CACHE_DIR" -type f -mtime +7 -delete
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.3
# Compilation takes most of the time here. Without these emitters it takes two thirds, and programs
# run up to twice as long; where programs are not split, a twentieth less. XLA stops at flags that it
# does not know: only where it knows these.
quickly="--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
if [ -z "${XLA_FLAGS:-}" ] && XLA_FLAGS="$quickly" python -c "import jax; jax.devices()" 2> /dev/null
then
  export XLA_FLAGS="$quickly"
fi
# Once a day ArviZ warns and notes it in a file, where two processes at once are in each other's way.
python -W ignore -c "import arviz" 2> /dev/null || true
