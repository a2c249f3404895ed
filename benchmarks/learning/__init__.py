"""Baselines of the training benchmark."""
