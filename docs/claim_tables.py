"""What the pages of the claims show: rows of the committed tables, and which run they are from."""

import json
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

RESULTS = Path(__file__).resolve().parent / "results"
COLOURS = {"holds": "color: #00694a", "fails": "color: #b23a00; font-weight: bold", "could not tell": "color: #666"}


def verdicts(study: str, claim: str) -> Styler:
    """Verdicts of one claim in the run of a study that is shown."""
    rows = _table(study, "verdicts")
    found = rows[rows["claim"] == claim].drop(columns="claim")
    if found.empty:
        raise ValueError(f'{study} has no verdicts on "{claim}"; it has those on {", ".join(rows["claim"].unique())}.')
    manifest = json.loads((RESULTS / study / "manifest.json").read_text())
    replicates = sum(cell["replicates"] for cell in manifest["cells"])
    commit = (manifest["runs"][-1]["git"]["commit"] or "unknown")[:8]
    caption = f"Preset {manifest['preset']}, seed {manifest['seed']}, {replicates:,} replicates, commit {commit}"
    return _coloured(found).set_caption(caption)


def everything() -> Styler:
    """Verdicts of all studies."""
    return _coloured(pd.read_csv(RESULTS / "verdicts.csv").drop(columns=["study", "minutes"]))


def table(study: str, name: str, **levels: object) -> Styler:
    """Rows of a table of the paper that have the given levels, without those columns."""
    rows = _table(study, name)
    for column, level in levels.items():
        rows = rows[rows[column] == level]
    if rows.empty:
        raise ValueError(f"{name} of {study} has no rows with {levels}.")
    return rows.drop(columns=list(levels)).style.format(precision=2).hide(axis="index")


def _table(study: str, name: str) -> pd.DataFrame:
    path = RESULTS / study / f"{name}.csv"
    if not path.is_file():
        known = ", ".join(sorted(found.parent.name for found in RESULTS.glob(f"*/{name}.csv")))
        raise ValueError(f'there are no {name} of a study "{study}"; there are those of {known}.')
    return pd.read_csv(path)


def _coloured(rows: pd.DataFrame) -> Styler:
    styled = rows.style.format(precision=3).map(lambda value: COLOURS.get(value, ""), subset=["verdict"])
    return styled.hide(axis="index")


def measures(study: str, names: list[str], **levels: object) -> Styler:
    """Measures of the cells with the given levels, one column a measure."""
    rows = _table(study, "measures")
    for column, level in levels.items():
        rows = rows[rows[column] == level]
    if rows.empty:
        raise ValueError(f"{study} has no cells with {levels}.")
    keys = [name for name in rows.columns if name not in ("measure", "value", "mcse", "n_used")]
    keys = [name for name in keys if len(rows[name].unique()) > 1]
    return rows.pivot_table("value", keys, "measure")[names].style.format(precision=4)


def duration() -> pd.DataFrame:
    """Core minutes of each study of the full run."""
    rows = pd.read_csv(RESULTS / "verdicts.csv")
    return rows.groupby("study", sort=False)["minutes"].first().round(1).to_frame("core minutes")
