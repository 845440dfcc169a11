"""`SirenError` and its subclasses: each message states what was wrong and what to do."""

from __future__ import annotations


class SirenError(Exception):
    """Base class of all errors raised by napari-siren on purpose."""


class InputError(SirenError, ValueError):
    """An invalid image, or another invalid argument."""


class ConfigError(SirenError, ValueError):
    """A setting with an unknown name, out of range, or in conflict with another setting."""


class DeviceError(SirenError, RuntimeError):
    """A device not available on this machine, or with too little memory for the work."""


class StorageError(SirenError, OSError):
    """A failure to read a file in its expected format, or to write a file."""
