"""Every code block a reader may copy runs: README, plain pages of docs, and docstring examples."""

import doctest
import importlib
import os
import pkgutil
import re
import warnings
from pathlib import Path

import pytest

import eeqs

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[str]:
    """Fenced python blocks, each padded so that a traceback shows the line of the document."""
    return ["\n" * text[: match.start(1)].count("\n") + match.group(1) for match in BLOCK.finditer(text)]


def run_blocks(path: Path) -> None:
    """Execute the blocks of one document in order, in one namespace, with warnings as errors."""
    namespace = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for block in blocks(path.read_text()):
            exec(compile(block, str(path), "exec"), namespace)  # noqa: S102 - our own documents


def _documents() -> list[Path]:
    """Return README and the pages that Sphinx shows without executing them; it executes the others itself."""
    pages = sorted((ROOT / "docs").rglob("*.md")) if (ROOT / "docs").is_dir() else []
    plain = [page for page in pages if "_build" not in page.parts and "{code-cell}" not in page.read_text()]
    return [ROOT / "README.md", *plain]


def _modules() -> list[str]:
    found = pkgutil.walk_packages(eeqs.__path__, "eeqs.")
    return ["eeqs", *(module.name for module in found if not module.name.startswith("eeqs.llm"))]


def test_readme_has_code():
    assert blocks((ROOT / "README.md").read_text())


@pytest.mark.parametrize("path", _documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(os.environ, "MPLBACKEND", "agg")
    run_blocks(path)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("```python\nx = 1\n```\ntext\n```python\nassert x == 1\n```\n", None),
        ("```bash\nnot python\n```\n", None),
        ("```python\nassert False\n```\n", AssertionError),
        ("```python\nimport warnings; warnings.warn('old')\n```\n", UserWarning),
    ],
)
def test_blocks_are_executed(tmp_path, text, error):
    page = tmp_path / "page.md"
    page.write_text(text)
    if error is None:
        run_blocks(page)
    else:
        with pytest.raises(error):
            run_blocks(page)


def test_a_failing_block_shows_its_line():
    assert blocks("one\n```python\n1 / 0\n```\n")[0].count("\n") == 3


@pytest.mark.parametrize("name", _modules())
def test_docstring_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_some_docstrings_have_examples():
    finder = doctest.DocTestFinder()
    assert any(test.examples for name in _modules() for test in finder.find(importlib.import_module(name)))
