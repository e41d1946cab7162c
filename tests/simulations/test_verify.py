"""``verify``, ``merge``, shares, precision and the report page, from the command line."""

import base64
import re
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from simulations import options
from simulations.__main__ import app
from simulations.store import Store


def _call(*arguments: object) -> Result:
    packages = ["--studies", "toy_studies", "--figures", "toy_figures"]
    return CliRunner().invoke(app, [*packages, *map(str, arguments)])


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    root = tmp_path_factory.mktemp("verified")
    return root, _call("verify", "--workers", 1, "--only", "wrong", "--only", "exponential", "--out", root)


def test_one_table_of_all_claims_and_exit_code_one_where_one_fails(verified: tuple[Path, Result]) -> None:
    root, result = verified
    assert result.exit_code == 1, result.output
    assert "1 fails, 1 holds" in result.output or "1 holds, 1 fails" in result.output
    assert "core minutes in 2 studies" in result.output
    table = pd.read_csv(root / "verdicts.csv")
    assert set(table["study"]) == {"wrong", "exponential"}
    assert dict(zip(table["study"], table["verdict"], strict=True)) == {"wrong": "fails", "exponential": "holds"}
    assert (table["minutes"] > 0).all()


def test_a_second_verification_runs_nothing(verified: tuple[Path, Result]) -> None:
    root, first = verified
    again = _call("verify", "--workers", 1, "--only", "wrong", "--only", "exponential", "--out", root)
    assert "replicates" not in again.output
    assert again.exit_code == 1
    assert first.output.endswith(again.output)


def test_a_study_that_cannot_run_is_an_error_and_the_others_run(tmp_path: Path) -> None:
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "thesis.txt").write_text("mine")
    result = _call("verify", "--workers", 1, "--only", "wrong", "--only", "exponential", "--out", tmp_path)
    assert result.exit_code == 2
    assert "error: wrong:" in result.output
    assert "1 holds" in result.output


def test_the_page_holds_its_figures_and_everything_that_was_asked(verified: tuple[Path, Result]) -> None:
    root, _ = verified
    result = _call("report", root)
    assert result.exit_code == 1
    page = (root / "report.html").read_text()
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)  # nothing is fetched from elsewhere
    images = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert [base64.b64decode(image) for image in images] == [b"<svg>exponential</svg>", b"<svg>wrong</svg>"]
    for text in ("fails", "holds", "seed 0", "preset quick", "torch", "failed: refused"):
        assert text.lower() in page.lower(), text
    for study in ("exponential", "wrong"):
        assert Store.read(root / study).manifest.digest in page
        assert (root / "tables" / f"measures_{study}.tex").read_text().count("\\\\") > 6
    verdicts = pd.read_csv(root / "tables" / "verdicts.csv")
    assert len(verdicts) == 2
    assert "model\\_se" in (root / "tables" / "measures_wrong.tex").read_text()


def test_shares_merge_on_the_command_line(tmp_path: Path) -> None:
    for index in (1, 2):
        share = _call("run", "exponential", "--workers", 1, "--shard", f"{index}/2", "--out", tmp_path / str(index))
        assert share.exit_code == 0, share.output
        assert f"Share {index} of 2" in share.output
    merged = _call("merge", tmp_path / "1", tmp_path / "2", "--out", tmp_path / "both")
    assert merged.exit_code == 0
    assert "the table is whole" in merged.output
    one = _call("run", "exponential", "--workers", 1, "--out", tmp_path / "one")
    assert one.exit_code == 0
    assert Store.read(tmp_path / "both").manifest.digest == Store.read(tmp_path / "one").manifest.digest
    refused = _call("merge", tmp_path / "1", tmp_path / "1", "--out", tmp_path / "twice")
    assert refused.exit_code == 2


def test_precision_on_the_command_line(tmp_path: Path) -> None:
    result = _call("run", "exponential", "--workers", 1, "--precision", 0.13, "--budget", "2m", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "every interval is at most 0.13 wide" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "exponential", "--shard", "3/2"), "write I/N with 1 <= I <= N"),
        (("run", "exponential", "--shard", "half"), "write I/N with 1 <= I <= N"),
        (("run", "exponential", "--precision", 0.1, "--budget", "soon"), "write 90s, 20m or 1.5h"),
        (("run", "exponential", "--precision", -1), "must be positive"),
        (("run", "exponential", "--precision", 0.1, "--shard", "1/2"), "leave out --shard"),
        (("run", "exponential", "--device", "cuda"), "runs on the CPU only: leave out --device"),
        (("run", "exponential", "--scheduler", "tcp://x", "--dask-local", 2), "not both"),
        (("verify", "--only", "nothing"), "no study 'nothing'"),
    ],
)
def test_mistakes_are_named(arguments: tuple, message: str, tmp_path: Path) -> None:
    result = _call(*arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert message in re.sub(r"[\s│]+", " ", result.stderr)


@pytest.mark.parametrize(("text", "value"), [("90s", 90.0), ("20m", 1200.0), ("1.5h", 5400.0)])
def test_times(text: str, value: float) -> None:
    assert options.seconds(text) == value
