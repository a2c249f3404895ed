"""Trained weights that ship with the code; the configuration names them as ``package://weights/…``."""
