"""Compared methods of generating the same image: stock diffusers, its IP-Adapter, the plain schedule, and ours.

All of them denoise one `Scene` on the same weights. A module says what it computes and recomputes.
"""
