"""Estimation from any estimating function ``psi(theta, data)``; knows no model."""
