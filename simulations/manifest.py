"""The manifest of a results directory: what was asked for, and on what it ran."""

import json
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from simulations.schema import SCHEMA_VERSION
from simulations.study import Cell

PACKAGES = ("eeqs", "numpy", "torch", "pandas", "pyarrow", "joblib")


class ResultsError(ValueError):
    """A results directory cannot be used as asked; the message names the file and the remedy."""


@dataclass(frozen=True)
class Plan:
    """What a run computes: its table is a function of these four fields.

    Parameters
    ----------
    study, preset : str
        Names of the study and its preset.
    seed : int
        Seed of the study.
    cells : sequence of Cell
        Cells, in the order of the table.
    """

    study: str
    preset: str
    seed: int
    cells: Sequence[Cell]

    def covering(self, other: "Plan") -> "Plan":
        """Return `other` with as many replicates a cell as this plan has, where it has fewer."""
        mine = {cell.key: cell.replicates for cell in self.cells}
        cells = [replace(cell, replicates=max(cell.replicates, mine.get(cell.key, 0))) for cell in other.cells]
        return replace(other, cells=cells)

    def differences(self, other: "Plan") -> list[str]:
        """Describe each field in which `other` differs."""
        found = [
            f"{name}: {getattr(self, name)!r} against {getattr(other, name)!r}"
            for name in ("study", "preset", "seed")
            if getattr(self, name) != getattr(other, name)
        ]
        mine, theirs = ({cell.key: cell for cell in plan.cells} for plan in (self, other))
        keys = [key for key in mine | theirs if mine.get(key) != theirs.get(key)]
        if keys:
            found.append(f"cells: {len(keys)} differ, first {keys[0]}")
        elif list(mine) != list(theirs):
            found.append("cells: another order")
        return found


@dataclass(frozen=True)
class Manifest:
    """A plan and the runs that worked on it.

    Parameters
    ----------
    plan : Plan
        What is computed.
    runs : tuple of dict
        One `provenance` a start or resume.
    digest : str
        `simulations.parts.digest` of the finished table; empty until it is finished.
    """

    plan: Plan
    runs: tuple[dict[str, Any], ...]
    digest: str = ""

    def to_json(self) -> str:
        """Write the manifest as JSON."""
        cells = [{"key": cell.key} | asdict(cell) for cell in self.plan.cells]
        for cell in cells:
            del cell["cost"]  # orders the work and leaves no trace in the table
        content = {
            "schema_version": SCHEMA_VERSION,
            "study": self.plan.study,
            "preset": self.plan.preset,
            "seed": self.plan.seed,
            "digest": self.digest,
            "runs": list(self.runs),
            "cells": cells,
        }
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read ``manifest.json``.

        Raises
        ------
        ResultsError
            The file is damaged or of another schema version.
        """
        remedy = "run the study again into a new directory"
        try:
            content = json.loads(path.read_text())
            found = content["schema_version"]
            manifest = cls._from(content) if found == SCHEMA_VERSION else None
        except (ValueError, KeyError, TypeError) as error:
            raise ResultsError(f"{path} is damaged ({error!r}): {remedy}") from error
        if manifest is None:
            raise ResultsError(f"{path} has schema version {found}, this code reads {SCHEMA_VERSION}: {remedy}")
        return manifest

    @classmethod
    def _from(cls, content: dict[str, Any]) -> "Manifest":
        cells = [Cell(**{k: v for k, v in cell.items() if k != "key"}) for cell in content["cells"]]
        plan = Plan(content["study"], content["preset"], content["seed"], cells)
        return cls(plan, tuple(content["runs"]), content["digest"])


def provenance() -> dict[str, Any]:
    """Return time, package versions, platform and git commit of this process."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "git": _git(Path(__file__).resolve().parents[1]),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(root: Path) -> dict[str, Any]:
    """Return commit and state of the checkout at `root`; None for both where `root` is not the top of one."""
    executable = shutil.which("git")

    def ask(*arguments: str) -> str | None:
        if executable is None:
            return None
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [executable, "-C", str(root), *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    top = ask("rev-parse", "--show-toplevel")
    commit = ask("rev-parse", "--verify", "HEAD") if top and Path(top).resolve() == root else None
    return {"commit": commit, "dirty": bool(ask("status", "--porcelain")) if commit else None}
