"""What training tells on the way: one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path

from eeqs.llm.training.files import written_atomically

__all__ = ["Metrics"]


class Metrics:
    """Records of a run, kept in memory and, with a path, appended to a file of JSON lines.

    Parameters
    ----------
    path : Path, optional
    until : int
        Records of later updates, which a killed run left behind its last checkpoint, are taken out of the file.
    """

    def __init__(self, path: Path | None = None, until: int = 0) -> None:
        self._path = path
        self.records: list[dict[str, float | str]] = []
        if path is None:
            return
        for line in path.read_text().splitlines() if path.is_file() else []:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                break  # the line that was being written when the run was killed
            if record["update"] <= until:
                self.records.append(record)
        text = "".join(json.dumps(record) + "\n" for record in self.records)
        written_atomically(path, lambda temporary: temporary.write_text(text))

    def add(self, record: dict[str, float | str]) -> None:
        """Append a record; it has an ``update``."""
        self.records.append(record)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(record) + "\n")
