"""Images at remote addresses (https://, s3://, …), by fsspec."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from napari_siren.errors import InputError
from napari_siren.io.lazy import import_zarr

# Protocols of fsspec for addresses.
_PROTOCOLS = ("http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "ftp", "sftp", "hdfs", "memory")
# Remedies by the name of an exception: of botocore without credentials, and of fsspec without a permission.
_REMEDIES = {
    "NoCredentialsError": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or FSSPEC_S3_ANON=true for public buckets.",
    "PermissionError": "Check the credentials.",
}
# Longest wait for the first answer of a server in seconds. s3fs by itself tries again for several minutes.
_PATIENCE = 15
# A path of the operating system has only one slash after the colon.
_ADDRESS = re.compile(rf"^({'|'.join(_PROTOCOLS)}):/{{1,2}}(?=[^/])", re.IGNORECASE)


def is_remote(path: str | Path) -> bool:
    """Return whether a path is a remote address."""
    return _ADDRESS.match(Path(path).as_posix() if isinstance(path, Path) else path) is not None


def address_of(path: str | Path) -> str:
    """Return a remote address with both slashes. A `Path` keeps one of them."""
    text = path.as_posix() if isinstance(path, Path) else path
    return _ADDRESS.sub(r"\1://", text).rstrip("/")


def remote_store(path: str | Path) -> Any:
    """Return a remote address as a store of zarr, to be read only.

    Raises
    ------
    InputError
        A library is missing, or the address is not valid.
    """
    storage = import_zarr("zarr.storage")
    with _one_line(path):
        return storage.FsspecStore.from_url(address_of(path), read_only=True)


def has_remote(path: str | Path, *names: str) -> bool:
    """Return whether one of several files is in a remote folder."""
    address = address_of(path)
    with _one_line(path):
        files, _ = _fsspec().url_to_fs(address)
        return any(files.exists(f"{address}/{name}", timeout=_PATIENCE) for name in names)


@contextmanager
def downloaded(path: str | Path) -> Iterator[Path]:
    """Yield a temporary copy of a remote file, with the same name.

    Raises
    ------
    InputError
        The file cannot be read. Errors of the block name the address instead of the copy.
    """
    address = address_of(path)
    name = PurePosixPath(unquote(urlsplit(address).path)).name or "image"
    with tempfile.TemporaryDirectory(prefix="napari-siren-") as folder:
        copy = Path(folder) / name
        with _one_line(path):
            files, place = _fsspec().url_to_fs(address)
            files.get_file(place, str(copy))
        try:
            yield copy
        except InputError as error:
            raise InputError(str(error).replace(str(copy), address)) from error


@contextmanager
def _one_line(path: str | Path) -> Iterator[None]:
    """Raise errors of the libraries as an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        raise InputError(
            f"{address_of(path)} needs a library that is not installed ({error}). Install it with: "
            'pip install "napari-siren[remote]".'
        ) from None
    except FileNotFoundError:
        raise InputError(f"there is no file {address_of(path)}. Check the address.") from None
    except TimeoutError:
        raise InputError(
            f"{address_of(path)} does not answer within {_PATIENCE} s. Check the address and the network."
        ) from None
    # The libraries of the protocols have exceptions of their own.
    except Exception as error:
        kind = type(error).__name__
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else kind
        remedy = _REMEDIES.get(kind, "Check the address and the network.")
        raise InputError(f"cannot read {address_of(path)}: {reason}. {remedy}") from error


def _fsspec() -> Any:
    from importlib import import_module

    return import_module("fsspec.core")
