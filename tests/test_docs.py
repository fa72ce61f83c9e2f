"""The docs say what the code says."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from etascope.schedules.names import NAMES, SHAPES

DOCS = Path(__file__).parent.parent / "docs"


def module_at(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def gallery() -> ModuleType:
    return module_at(DOCS / "gallery.py")


@pytest.mark.parametrize("name", NAMES)
def test_every_schedule_says_what_when_and_whence(gallery: ModuleType, name: str) -> None:
    said = gallery.sections(name)
    assert said["head"] and said["use"] and said["Source"] and said["example"].startswith(">>> ")
    if name in SHAPES:
        parameters = gallery.signature(name).strip("()").split(", ")
        assert all(f"- `{p.split('=')[0]}`: " in gallery.arguments(said) for p in parameters)


def test_the_gallery_is_as_the_docstrings_are(gallery: ModuleType) -> None:
    """If not: python docs/gallery.py."""
    assert (DOCS / "schedules.md").read_text(encoding="utf-8") == gallery.page()
    assert {path.stem for path in (DOCS / "schedules").glob("*.svg")} == NAMES.keys() == gallery.curves().keys()


def test_the_pages_on_checks_are_as_the_checks_are() -> None:
    """If not: python docs/checks.py."""
    pages = module_at(DOCS / "checks.py").pages()
    assert {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "checks").iterdir()} == pages


def test_the_page_on_lanes_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (DOCS / "lanes.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(example, {"__name__": "example"})
    assert "{'dropout': 0.4, 'label_smoothing': 0.1}" in capsys.readouterr().out


def test_the_readme_has_the_committed_speeds() -> None:
    """If not: paste what python benchmarks/lane_table.py prints."""
    benchmarks = DOCS.parent / "benchmarks"
    stored = json.loads((benchmarks / "results/lanes.json").read_text(encoding="utf-8"))
    table = module_at(benchmarks / "lane_table.py").table(stored)
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert all(f"\n  {line}\n" in readme for line in table.splitlines())
