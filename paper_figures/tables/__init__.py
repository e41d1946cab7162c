"""The paper's tables, a module each with ``STUDY`` and ``make(results)``; found by name."""
