"""Rules that hold for every module and every public name, those still to be written included."""

import ast
import importlib
import inspect
import re
import subprocess
from pathlib import Path

import pytest

import bayesdcm
from bayesdcm.infer.fitting import METHODS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "bayesdcm"
MODULES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))

# The explicit generators; everything else in numpy.random draws from a global state.
EXPLICIT_RANDOM = {"BitGenerator", "Generator", "PCG64", "Philox", "SeedSequence", "default_rng"}


def exists(name):
    """Tell whether the room that a name of the package comes from has been written."""
    stub = (PACKAGE / "__init__.pyi").read_text()
    source = re.search(rf"^from \.(\S+) import .*\b{name}\b", stub, flags=re.MULTILINE)
    room = source[1].split(".")[0] if source else name
    return (PACKAGE / room).is_dir()


def public_names():
    """List (module, name) of every public name: the package's own and those of each room."""
    names = [("bayesdcm", name) for name in bayesdcm.__all__ if exists(name)]
    for room in ROOMS:
        module = f"bayesdcm.{room}"
        names += [(module, name) for name in importlib.import_module(module).__all__]
    return names


def public_methods(cls):
    """List the public methods that this package wrote for a class."""
    return [
        getattr(cls, name)
        for name, value in vars(cls).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or isinstance(value, classmethod | staticmethod))
        and getattr(cls, name).__module__.startswith("bayesdcm")
    ]


def documented_parameters(thing, section="Parameters"):
    """Return the names that a numpydoc section documents, in their order."""
    text = inspect.getdoc(thing) or ""
    found = re.search(rf"^{section}\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", text, flags=re.M | re.S)
    if found is None:
        return []
    entries = re.findall(r"^(\S.*?)(?:\s*:.*)?$", found[1], flags=re.MULTILINE)
    return [name.strip().lstrip("*") for entry in entries for name in entry.split(",")]


def actual_parameters(thing):
    try:
        parameters = inspect.signature(thing).parameters
    except ValueError:
        return []
    return [name for name in parameters if name not in ("self", "cls")]


def assert_documents_its_parameters(thing):
    actual = actual_parameters(thing)
    documented = documented_parameters(thing)
    if inspect.isclass(thing) and not documented:
        # A result lists what it holds; nobody constructs it by hand.
        documented = [n for n in documented_parameters(thing, "Attributes") if n in actual]
    assert documented == actual, f"{thing.__qualname__}: documents {documented}, takes {actual}"


@pytest.mark.parametrize(("module", "name"), public_names())
def test_public_names_are_documented(module, name):
    thing = getattr(importlib.import_module(module), name)
    if inspect.ismodule(thing) or callable(thing):
        assert (inspect.getdoc(thing) or "").strip(), f"{module}.{name} has no docstring"
    written_here = getattr(thing, "__module__", "").startswith("bayesdcm")
    if not (written_here and (inspect.isclass(thing) or inspect.isfunction(thing))):
        return
    assert_documents_its_parameters(thing)
    for method in public_methods(thing) if inspect.isclass(thing) else []:
        assert (inspect.getdoc(method) or "").strip(), f"{method.__qualname__} has no docstring"
        # An abstract method documents its parameters once, for all that implement it.
        if not any(hasattr(base, method.__name__) for base in thing.__bases__):
            assert_documents_its_parameters(method)


def test_public_names_have_no_duplicates_and_exist():
    for room in ROOMS:
        names = list(importlib.import_module(f"bayesdcm.{room}").__all__)
        assert len(set(names)) == len(names), f"bayesdcm.{room}.__all__ repeats a name"


def dotted(node):
    """Return an attribute chain as text, a.b.c, or nothing where it is something else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def global_random_uses(tree):
    """List the uses of a global random state, Python's or NumPy's, in a syntax tree."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not dotted(node).startswith("random."):
            names.append(re.sub(r"^np\.", "numpy.", dotted(node)))
        elif isinstance(node, ast.Import):
            names += [f"{alias.name}.*" for alias in node.names if alias.name == "random"]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    used = [re.fullmatch(r"(?:numpy\.)?random\.(\w+|\*)", name) for name in names]
    return [use[0] for use in used if use and use[1] not in EXPLICIT_RANDOM]


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import numpy as np; np.random.seed(0)", 1),
        ("import numpy; x = numpy.random.rand(3)", 1),
        ("from numpy.random import seed, default_rng", 1),
        ("import random", 1),
        ("from random import gauss", 1),
        ("import numpy as np; np.random.default_rng(0).normal()", 0),
        ("import jax; jax.random.normal(jax.random.key(0))", 0),
        ("from jax import random; random.normal(random.key(0))", 0),
    ],
)
def test_the_search_for_random_state_finds_it(code, found):
    assert len(global_random_uses(ast.parse(code))) == found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_clean(path):
    source = path.read_text()
    assert global_random_uses(ast.parse(source)) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_plots_return_and_never_show(path):
    tree = ast.parse(path.read_text())
    calls = [dotted(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not [call for call in calls if call.endswith(".show")]
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name.startswith("plot_"):
            returns = [node for node in ast.walk(function) if isinstance(node, ast.Return)]
            assert any(node.value is not None for node in returns), function.name


def method_names_in(tree):
    """String constants that are names of methods, docstrings and sentences left out."""
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in METHODS
    ]


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("METHODS = {'laplace': 1, 'nuts': 2}", ["laplace", "nuts"]),
        ("if fit.method == 'svi': pass", ["svi"]),
        ("raise ValueError('use nuts')", []),
    ],
)
def test_the_search_for_names_of_methods_finds_them(code, names):
    assert method_names_in(ast.parse(code)) == names


def test_only_methods_know_their_names():
    """A second list of methods would have to be changed with every new one."""
    homes = {inspect.getsourcefile(method) for method in METHODS.values()}
    for path in MODULES:
        if str(path) not in homes:
            names = method_names_in(ast.parse(path.read_text()))
            assert not names, f"{path.relative_to(ROOT)} names {names}"


def tracked_text_files():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and b"\0" not in path.read_bytes()[:8192]:
            yield path


def test_no_machine_paths():
    # A path that starts at somebody's home or workplace; relative paths and URLs are fine.
    machine = re.compile(r"(?<![\w./>-])/(?:root|work|mnt|home/\w+|Users/\w+)/")
    hits = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked_text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if machine.search(line)
    ]
    assert hits == []


def test_no_large_files():
    large = [path.name for path in tracked_text_files() if path.stat().st_size > 1_000_000]
    assert large == []


def test_every_tutorial_has_a_card_and_a_picture():
    gallery = (ROOT / "docs" / "tutorials.md").read_text()
    for path in (ROOT / "tutorials").glob("*.md"):
        for part in (f":link: tutorials/{path.stem}\n", f"{path.stem}.png", f"{path.stem}.ipynb"):
            assert gallery.count(part) == 1, f"docs/tutorials.md has no {part}"
        pictures = path.read_text().count("\n:tags: [thumbnail]\n")
        assert pictures == 1, f"{path.name}: {pictures} cells have the tag thumbnail"


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.*)$", citation, flags=re.M) == [bayesdcm.__version__]


def test_public_names_are_in_the_reference():
    reference = (ROOT / "docs" / "api.md").read_text().split()
    missing = [name for name in bayesdcm.__all__ if not {name, f"{name}.{name}"} & {*reference}]
    assert missing == []
