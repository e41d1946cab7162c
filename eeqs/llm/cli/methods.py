"""``python -m eeqs.llm methods``."""

from rich.table import Table

from eeqs.llm.cli.catalogue import catalogue
from eeqs.llm.cli.console import out
from eeqs.llm.cli.readers import described

__all__ = ["list_methods"]


def list_methods() -> None:
    """List the methods of --method, and the --option of each with its default."""
    table = Table("method", "options", "what it does")
    for name, entry in catalogue().items():
        table.add_row(name, described(entry.known), entry.summary)
    out().print(table)
