"""The HTML report: complete, alone on a page, and never half written."""

import re
from html.parser import HTMLParser

import pytest

from bayesdcm.report import write_report
from bayesdcm.report.page import _setting_text
from bayesdcm.report.words import all_listed

# For the fits that are reported.
pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """Tags, identifiers and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).replace("\xa0", " ").split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def report(study, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    fits = {"laplace": study.laplace, "nuts": study.nuts}
    written = write_report(
        fits, path, title="A <small> study", notes=["Noted."], settings={"seed": 7}
    )
    assert written == path
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(report):
    return Page(report)


def test_headline_says_what_was_fitted_and_how_well(page, study):
    assert "A <small> study" in page.text
    assert "among 2 regions (V1, V5) under 2 inputs (Photic, Motion)" in page.text
    assert "60 scans, one every 2 s, by variational Laplace and NUTS" in page.text
    assert f"free energy {study.laplace.log_evidence:.1f} nats" in page.text
    assert "R-hat at most" in page.text and "Noted." in page.text
    assert "Against nuts, laplace has its means at most" in page.text
    for problem in study.nuts.diagnose().problems:
        assert " ".join(problem.split()) in page.text


def test_tables_hold_every_parameter(page, study):
    for label in study.laplace.summary().index:
        # Comparison and one summary for each fit.
        assert page.text.count(f"{label} ") >= 3, label
    assert "Worst agreement first" in page.text


def test_figures_settings_versions_and_references(page):
    assert page.tags.count("svg") == 8
    described = [value for tag, name, value in page.attributes if name == "aria-label"]
    assert described[:3] == ["Network", "Effective connectivity", "Modulations"]
    assert "seed 7" in page.text and "laplace: converged yes" in page.text
    assert "numpyro" in page.text and "Python 3." in page.text
    assert "NeuroImage 34:220-234" in page.text and "1593-1623" in page.text


def test_the_page_needs_nothing_else(report, page):
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    loaded = [
        (tag, name, value)
        for tag, name, value in page.attributes
        if name in ("src", "href", "xlink:href", "data", "srcset")
        and not (value or "").startswith(("#", "data:image/png"))
        and tag != "a"
    ]
    assert loaded == []
    assert "@import" not in report and not re.search(r"url\((?!#)", report)
    assert "<metadata" not in report


def test_identifiers_do_not_repeat_and_are_found(page):
    names = [value for _, name, value in page.attributes if name == "id"]
    assert len(set(names)) == len(names)
    used = {v[1:] for _, n, v in page.attributes if n in ("xlink:href", "href") and v[0] == "#"}
    assert used <= set(names)


def test_one_fit_without_regions(program_fit, tmp_path):
    path = write_report(program_fit, tmp_path / "one.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert "Program line, fitted to y (40) by variational Laplace." in page.text
    assert page.tags.count("svg") == 4


def test_an_old_report_stays_until_the_new_one_is_complete(program_fit, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(program_fit, path)
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]


def test_wrong_arguments(tmp_path):
    with pytest.raises(FileNotFoundError, match="folder .* does not exist"):
        write_report({}, tmp_path / "absent" / "report.html")
    with pytest.raises(TypeError, match="got int for 'a'"):
        write_report({"a": 1}, tmp_path / "report.html")
    with pytest.raises(ValueError, match="empty dict"):
        write_report({}, tmp_path / "report.html")


@pytest.mark.parametrize(
    ("items", "text"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (list("abc"), "a, b and c")],
)
def test_listed(items, text):
    assert all_listed(list(items)) == text


def test_records_are_words():
    record = {"starts": 3, "reason": "nodes may differ", "gain": 54.4750, "left": None}
    assert _setting_text(record) == "starts: 3, reason: nodes may differ, gain: 54.475"
