"""Figures of the paper, each built from the stored table of a study; one file a figure."""
