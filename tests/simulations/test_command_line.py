"""The command line: list, run, report, and their exit codes."""

import re
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from simulations.__main__ import app


def _call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["--studies", "toy_studies", *map(str, arguments)])


def _run(directory: Path, *options: object, study: str = "exponential") -> Result:
    return _call("run", study, "--workers", 1, "--out", directory, *options)


def test_list_shows_every_study_with_its_summary() -> None:
    result = _call("list")
    assert result.exit_code == 0
    names = [line.split()[0] for line in result.output.splitlines()]
    assert names == ["exponential", "slow", "wrong"]
    assert "mean of exponentials" in result.output


def test_run_stores_and_reports_and_report_repeats_it(tmp_path: Path) -> None:
    result = _run(tmp_path)
    assert result.exit_code == 0, result.output
    assert "360/360 replicates" in result.output
    for name in ("manifest.json", "data", "measures.csv", "verdicts.csv"):
        assert (tmp_path / name).exists()
    verdicts = pd.read_csv(tmp_path / "verdicts.csv")
    assert verdicts["verdict"].tolist() == ["holds"]
    measured = pd.read_csv(tmp_path / "measures.csv")
    rows = measured.query("measure == 'rmse'")
    assert rows["n"].tolist() == [10, 10, 40, 40, 160, 160]
    shown = result.output[result.output.index("Measures") :]
    assert f"{rows['value'].iloc[0]:.4g} ({rows['mcse'].iloc[0]:.2g})" in shown
    again = _call("report", tmp_path)
    assert again.exit_code == 0, again.output
    assert again.output.startswith(shown)


def test_closed_forms_of_the_toy_study_are_recovered(tmp_path: Path) -> None:
    _run(tmp_path, "--preset", "full", "--seed", 5)
    measured = pd.read_csv(tmp_path / "measures.csv").set_index(["estimator", "n", "measure"]).sort_index()
    for n in (10, 40, 160):
        truth = {("plain", "bias"): 0, ("plain", "mse"): 1 / n, ("shrunk", "bias"): -1 / (n + 1)}
        truth[("shrunk", "mse")] = 1 / (n + 1)
        for (estimator, name), value in truth.items():
            row = measured.loc[(estimator, n, name)]
            assert abs(row["value"] - value) < 4 * row["mcse"], (estimator, n, name)
            assert abs(row["value"] - value - 9 * row["mcse"]) > 4 * row["mcse"]


def test_a_claim_that_fails_is_exit_code_one(tmp_path: Path) -> None:
    result = _run(tmp_path, study="wrong")
    assert result.exit_code == 1
    assert "fails" in result.output
    assert _call("report", tmp_path).exit_code == 1


@pytest.mark.parametrize(("study", "code"), [("exponential", 0), ("wrong", 1)])
def test_run_writes_the_page_too_when_asked(study: str, code: int, tmp_path: Path) -> None:
    result = _call("--figures", "toy_figures", "run", study, "--workers", 1, "--out", tmp_path, "--report")
    assert result.exit_code == code, result.output
    assert "report.html" in result.output
    once = (tmp_path / "report.html").read_bytes()
    assert _call("--figures", "toy_figures", "report", tmp_path).exit_code == code
    assert (tmp_path / "report.html").read_bytes() == once


def test_a_second_run_needs_resume(tmp_path: Path) -> None:
    _run(tmp_path)
    refused = _run(tmp_path)
    assert refused.exit_code == 2
    assert "add --resume to continue it" in refused.stderr
    assert _run(tmp_path, "--resume").exit_code == 0
    other = _run(tmp_path, "--resume", "--seed", 1)
    assert other.exit_code == 2
    assert "seed: 0 against 1" in other.stderr


def test_default_directory_names_study_and_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _call("run", "exponential", "--workers", 1).exit_code == 0
    assert (tmp_path / "results" / "exponential-quick" / "verdicts.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "nothing"), "no study 'nothing'; there are: exponential, slow, wrong"),
        (("report", "nowhere"), "nowhere is not a results directory"),
        (("run", "exponential", "--preset", "huge"), "'huge' is not one of"),
        (("run", "exponential", "--workers", 0), "Invalid value for '--workers'"),
        (("run", "exponential", "--seed", -1), "Invalid value for '--seed'"),
        (("run", "exponential", "--shard", "1/2", "--report"), "leave out --shard"),
    ],
)
def test_mistakes_are_exit_code_two(arguments: tuple, message: str) -> None:
    result = _call(*arguments)
    assert result.exit_code == 2
    assert message in re.sub(r"[\s│]+", " ", result.stderr)
