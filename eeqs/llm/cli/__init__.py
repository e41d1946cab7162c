"""The command line ``python -m eeqs.llm``: one file a command, and what they share."""
