"""Baselines and measurements of the preparation benchmark."""
