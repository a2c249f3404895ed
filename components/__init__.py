"""The parts of RealCustom Studio. The version of the whole distribution is here."""

__version__ = "0.2.0"
