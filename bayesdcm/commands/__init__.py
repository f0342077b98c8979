"""Commands of the shell command `bayesdcm` and what they share; `bayesdcm.cli` puts them together.

Everything else of the package is imported by the commands that need it: help must not wait for
JAX.
"""

__all__: list[str] = []
