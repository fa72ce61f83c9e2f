"""The report: whole, well-formed, small, needing nothing from outside."""

import itertools
import re
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from etascope import reports
from etascope.errors import RecordError
from etascope.records import load

VOID = {"meta", "br", "link", "img", "hr", "input"}


class Strict(HTMLParser):
    """Every tag closed in its order; keeps addresses and ids."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.ids = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href", "action", "data")]
        self.ids += [v for k, v in attrs if k == "id"]

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check(page):
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    assert parser.addresses == []
    assert "http" not in page and "url(" not in page and "@import" not in page and "<script" not in page
    assert len(parser.ids) == len(set(parser.ids))
    pictures = re.findall(
        r'<svg class="eta eta-plot.*?</svg>(?=\s*(?:<svg class="eta eta-plot|<(?!/?(?:svg|path|'
        r"line|rect|circle|text|title)\b)))",
        page,
        re.S,
    )
    assert len(pictures) == page.count('class="eta eta-plot')
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        assert root.get("role") == "img" and root.get("aria-label")
        for element in root.iter():
            for value in element.attrib.values():
                assert "nan" not in value.split() and "inf" not in value.split()
    assert not re.search(r'[ ",M](nan|inf)[ ",]', "".join(pictures))
    return pictures


def test_odd_records_make_whole_pages(odd):
    for name, record in odd.items():
        page = reports.html(record)
        pictures = check(page)
        assert pictures or not any(r.curves for r in record.rungs), name
        assert len(page.encode()) < 400_000, name
        check(record._repr_html_())


def test_every_part_is_there(make):
    page = re.sub(r'<span class="nb">(.*?)</span>', r"\1", reports.html(make.finding()))
    parts = """Use 1.1e-2|As good: 5.4e-3 to 2.3e-2|Too small|Just right|Too large|Diverges|The schedule
        |Every training|27 trainings|Settings and versions|torch.optim.AdamW|eta.attach|2.7.1
        |prefers-color-scheme|width=device-width"""
    for part in re.split(r"\s*\|", parts):
        assert part in page, part
    assert page.count("<tbody>") == 1 and page.split("<tbody>")[1].split("</tbody>")[0].count("<tr>") == 27
    assert page.count("<summary>") == 4 + 1


def test_a_page_stays_small(make):
    rungs = make.race(((250, 32, 1e-5, 1.0), (1000, 16, 1e-4, 0.1), (2000, 12, 1e-3, 0.1)), points=200)
    assert len(reports.html(make.finding(rungs)).encode()) <= 1_000_000
    crowd = make.race(((2000, 1000, 1e-5, 10.0),), points=200)
    assert len(reports.html(make.finding(crowd)).encode()) <= 1_000_000


def test_a_thousand_lanes_are_shown_over_their_whole_range(make):
    page = reports.html(make.sweep(lrs=1024, seeds=(0,), lo=1e-4, hi=1.0))
    shown = [float(lr) for lr in re.findall(r'viewBox="0 0 150 90"[^>]*aria-label="lr ([^:]+):', page)]
    assert len(shown) == 400 and "624 further lrs are in the table below only" in page
    steps = [b / a for a, b in itertools.pairwise(shown)]
    assert shown[0] < 1.02e-4 and shown[-1] > 0.95 and max(steps) < 1.05  # 1e4 ** (3 / 1023) and rounding


def test_names_are_escaped(make):
    record = make.finding(
        task="<b>a&b</b>", optimizer="<i>x</i>", notes=("<u>n</u>",), paste="f(lr={lr}, g=lambda: '<s>')"
    )
    for out in (reports.html(record), record._repr_html_(), reports.plot(record).svg):
        assert not re.search(r"<(b|i|u|s)>", out)
    assert "&lt;b&gt;a&amp;b&lt;/b&gt;" in reports.html(record)


def test_no_curves_give_a_message_in_place_of_axes(odd):
    page = reports.html(odd["no curves"])
    assert "The record holds final losses only" in page
    assert page.count('class="eta eta-plot') == 2  # the main plot, wide and narrow


def test_report_writes_the_file_and_nothing_else(make, tmp_path):
    path = reports.report(make.finding(), tmp_path / "deep" / "report.html")
    assert path.read_text(encoding="utf-8") == reports.html(make.finding())
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_folder_that_cannot_be_written_is_said(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot write"):
        reports.report(make.finding(), tmp_path / "file" / "report.html")


def test_an_old_record_draws_the_same_page(odd, tmp_path):
    for name in ("mine low", "sweep", "unanswered", "no curves", "no edge"):
        odd[name].save(tmp_path / "finding.json")
        assert reports.html(load(tmp_path / "finding.json")) == reports.html(odd[name]), name


def test_plots_show_themselves_everywhere(make, odd, tmp_path):
    plot = reports.plot(make.finding())
    root = ElementTree.fromstring(plot.save(tmp_path / "plot.svg").read_text(encoding="utf-8"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert plot._repr_svg_() == plot.svg and plot.svg in plot._repr_html_()
    assert "▲" in str(plot)
    for record in odd.values():
        ElementTree.fromstring(reports.plot(record).svg)


def test_importing_reports_loads_no_torch():
    code = "import sys, etascope.reports; print('torch' in sys.modules, 'jinja2' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.split() == ["False", "False"]
