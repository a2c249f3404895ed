"""The compared implementations: stock diffusers, its IP-Adapter, the paper's schedule unoptimized, and this project's.

All of them denoise the same `DenoisingInputs` with the same U-Net weights. Each module describes what its
implementation computes once and what in every step.
"""
