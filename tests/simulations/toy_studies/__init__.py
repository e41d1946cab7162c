"""Studies with known answers."""
