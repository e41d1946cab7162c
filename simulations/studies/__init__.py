"""Studies, one module each: `simulations.study.discover` finds every module with a ``STUDY``."""
