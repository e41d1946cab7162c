"""Figures, one module each: ``STUDY`` names the study whose stored table ``draw(results)`` shows."""
