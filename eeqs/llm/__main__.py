"""Command line: ``python -m eeqs.llm train | eval | compare | generate | methods``."""

from eeqs.llm.cli.app import app

if __name__ == "__main__":
    app()
