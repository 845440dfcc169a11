"""Versions of installed packages."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def version_of(package: str) -> str:
    """Return the version of a package, or "unknown" if it is not installed, for example if run from its sources."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
