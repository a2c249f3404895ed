"""Errors a user can act on. Entry points print them as one line and exit with code 2."""

from __future__ import annotations


class RealCustomError(Exception):
    """Root of every error that names a field or a file and its remedy.

    RealCustomError
    ├── ConfigError       a preset, a `--set` key or a value
    ├── DataError         a source, a picture or a dataset directory
    ├── WordError         a target word that the prompt does not contain
    ├── ArtifactError     a model directory that is missing, half-written or of another identity
    ├── TrainingError     a training that was stopped before its last step
    ├── RegistryError     an unknown model, version or alias
    ├── NotFoundError     a character that does not exist (or belongs to another owner)
    └── KeyReusedError    an idempotency key that stands for another request
    """


class ConfigError(RealCustomError): ...


class DataError(RealCustomError): ...


class WordError(RealCustomError): ...


class ArtifactError(RealCustomError): ...


class TrainingError(RealCustomError): ...


class RegistryError(RealCustomError): ...


class NotFoundError(RealCustomError): ...


class KeyReusedError(RealCustomError):
    """The idempotency key was used for another request, or too often."""
