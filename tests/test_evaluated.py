"""The directive of the pages of the claims: what it shows, and that a wrong study or claim fails the build."""

import html
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
CONFIGURATION = f"""
import sys

sys.path.insert(0, {str(DOCS)!r})
extensions = ["myst_parser", "evaluated"]
"""


def _build(folder: Path, page: str) -> subprocess.CompletedProcess[str]:
    """Build a documentation of one page as ``make docs`` does."""
    (folder / "conf.py").write_text(CONFIGURATION)
    (folder / "index.md").write_text(f"# Page\n\n{page}")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(folder),
        str(folder / "out"),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603


def _evaluated(code: str, *options: str) -> str:
    return "\n".join(["```{evaluated}", *options, "", code, "```", ""])


def test_code_output_and_value_are_shown(tmp_path: Path) -> None:
    shown = _evaluated('print("printed", 6 * 7)\n{"value": 6 * 9}')
    table = _evaluated("from claim_tables import verdicts\n\nverdicts('ridge', 'T7')", ":hide-code:")
    silent = _evaluated("nothing = 1")
    result = _build(tmp_path, shown + table + silent)
    assert result.returncode == 0, result.stderr
    page = html.unescape(re.sub("<[^>]*>", "", (tmp_path / "out" / "index.html").read_text()))
    for text in ('print("printed", 6 * 7)', "printed 42", "{'value': 54}", "Preset full, seed", "least squares a=1.5"):
        assert text in page, text
    assert "claim_tables" not in page


WRONG = {
    'verdicts("ridge", "T99")': 'ridge has no verdicts on "T99"; it has those on T7',
    'verdicts("rigde", "T7")': 'there are no verdicts of a study "rigde"',
    'measures("rates", ["bias"], n=-1)': "rates has no cells with",
    'measures("rigde", ["bias"])': 'there are no measures of a study "rigde"',
    "import warnings; warnings.warn('odd')": "UserWarning: odd",
    "1 +": "SyntaxError",
}


def test_what_cannot_be_shown_fails_the_build_at_its_line(tmp_path: Path) -> None:
    blocks = [_evaluated(f"from claim_tables import measures, verdicts\n{code}") for code in WRONG]
    result = _build(tmp_path, "".join(blocks))
    assert result.returncode != 0
    for position, message in enumerate(WRONG.values()):
        line = 3 + position * blocks[0].count("\n")
        (found,) = (text for text in result.stderr.splitlines() if f"index.md:{line}:" in text)
        assert message in found
