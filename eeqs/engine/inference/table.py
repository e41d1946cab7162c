"""A table of estimates as text, HTML or LaTeX."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Summary", "format_number"]

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after a line break it would start an optional argument
    **{character: "\\" + character for character in "&%$#_{}"},
}


def format_number(value: float, decimals: int) -> str:
    """Format with fixed decimals where they show three digits, else scientific: nothing prints as 0.0000."""
    fixed = f"{value:.{decimals}f}"
    return fixed if value == 0 or abs(value) >= 0.05 or decimals == 3 else f"{value:.3e}"


@dataclass(frozen=True)
class Summary:
    """A table that prints as text.

    Attributes
    ----------
    title : str
    headers : sequence of str
        One a column, without that of the names.
    names : sequence of str
        One a row.
    cells : sequence of sequences of str
        Formatted numbers, row by row.
    """

    title: str
    headers: Sequence[str]
    names: Sequence[str]
    cells: Sequence[Sequence[str]]

    def as_text(self) -> str:
        """Fixed-width text."""
        rows = [["", *self.headers], *([name, *row] for name, row in zip(self.names, self.cells, strict=True))]
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        ]
        rule = "-" * len(lines[0])
        return "\n".join([self.title, rule, lines[0], rule, *lines[1:], rule])

    def as_html(self) -> str:
        """Return an HTML table; names are escaped."""
        head = "".join(f"<th>{html.escape(header)}</th>" for header in ("", *self.headers))
        body = "\n".join(
            f"<tr><th>{html.escape(name)}</th>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for name, row in zip(self.names, self.cells, strict=True)
        )
        return f"<table>\n<caption>{html.escape(self.title)}</caption>\n<tr>{head}</tr>\n{body}\n</table>"

    def as_latex(self) -> str:
        """Return a LaTeX tabular for booktabs; names are escaped, and the title is its first row."""
        rows = [["", *self.headers], *([name, *row] for name, row in zip(self.names, self.cells, strict=True))]
        lines = [" & ".join(_latex(cell) for cell in row) + r" \\" for row in rows]
        width = len(self.headers) + 1
        title = rf"\multicolumn{{{width}}}{{c}}{{{_latex(self.title)}}} \\"
        return "\n".join(
            [
                rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}",
                r"\toprule",
                title,
                r"\midrule",
                lines[0],
                r"\midrule",
                *lines[1:],
                r"\bottomrule",
                r"\end{tabular}",
            ]
        )

    def __str__(self) -> str:
        return self.as_text()

    def _repr_html_(self) -> str:
        return self.as_html()


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
