"""Data-generating designs shared by the studies: known truth, simulated data, starting values."""
