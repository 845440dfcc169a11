"""The errors that the package raises on purpose; each message says what was wrong and what to do."""

from __future__ import annotations


class SirenError(Exception):
    """Base of every error that napari-siren raises on purpose."""


class InputError(SirenError, ValueError):
    """The image, or an argument beside it, cannot be used as it is."""


class ConfigError(SirenError, ValueError):
    """A setting is unknown, out of range, or at odds with another."""


class DeviceError(SirenError, RuntimeError):
    """The device asked for is not there, or cannot hold the work."""


class StorageError(SirenError, OSError):
    """A file cannot be read as what it should be, or cannot be written."""
