"""Files that commands read and write."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def make_folder(path: Path) -> None:
    """Make a folder for results, and raise where nothing can be written to it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"--out: the folder '{path}' cannot be made ({error.strerror})") from None
    check_writable(path / "report.html")


def check_writable(*paths: Path | None) -> None:
    """Raise before long work where its result could not be written."""
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise OSError(f"'{path}' is a folder; name a file to write")
        if not path.parent.is_dir():
            raise OSError(f"the folder '{path.parent}' does not exist; make it first")
        try:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise OSError(
                f"the folder '{path.parent}' cannot be written to ({error.strerror})"
            ) from None


def named(paths: list[Path]) -> dict[str, Path]:
    """Files by their stems, or by their paths where stems repeat; raise where one comes twice."""
    places = [path.resolve() for path in paths]
    twice = [path for path, place in zip(paths, places, strict=True) if places.count(place) > 1]
    if twice:
        raise ValueError(f"'{twice[0]}' is given more than once; name every file once")
    stems = [path.stem for path in paths]
    return {path.stem if stems.count(path.stem) == 1 else str(path): path for path in paths}


def read_table(option: str, path: Path, kind: str, **options: Any) -> pd.DataFrame:
    """Table of values that are separated by marks of a kind, which messages name."""
    import pandas as pd

    if not path.is_file():
        raise FileNotFoundError(f"{option}: there is no file {str(path)!r}")
    try:
        return pd.read_csv(path, skipinitialspace=True, **options)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{option}: {str(path)!r} is not a table of {kind} ({error})") from error


def separator(path: Path) -> str:
    """What separates the names in the first line: a tab, a semicolon, or else a comma."""
    if not path.is_file():
        return ","
    first = path.read_text(encoding="utf-8-sig", errors="replace").partition("\n")[0]
    return next((mark for mark in ("\t", ";") if mark in first), ",")


def read_priors(path: Path) -> pd.DataFrame:
    """Table of priors: columns parameter, mean and variance."""
    table = read_table("--priors", path, "comma-separated values")
    missing = [name for name in ("parameter", "mean", "variance") if name not in table.columns]
    if missing:
        raise ValueError(
            f"--priors: {str(path)!r} lacks column(s) {', '.join(missing)}; expected parameter, "
            f"mean and variance, got {', '.join(map(str, table.columns))}. Labels with commas, "
            'such as "A[V5, V1]", need quotation marks'
        )
    return table
