"""Images at addresses: S3, servers that do not answer, and results, which stay on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from waiting import LIMIT

import napari_siren as ns
from napari_siren import InputError, StorageError
from napari_siren.core.storage.atomic import prepare_folder
from napari_siren.io import remote
from napari_siren.io.images import check_target, read_image, write_image
from napari_siren.io.zarr.ome_zarr import write_ome_zarr

GREY = np.random.default_rng(0).integers(0, 200, (24, 32), dtype=np.uint8)


# ---- S3 --------------------------------------------------------------------------------------------------------

# Reads the images in a process of its own, because s3fs leaves its connections open until the end.
READ = """
import sys
from napari_siren import InputError
from napari_siren.io.images import read_image
for address in sys.argv[1:]:
    try:
        picture = read_image(address)
        print(picture.array.shape, int(picture.array.sum()), picture.spacing)
    except InputError as error:
        print(error)
"""


def read_from(bucket: dict[str, str], *addresses: str) -> list[str]:
    """Return the lines on images that another process reads."""
    command = [sys.executable, "-c", READ, *addresses]
    done = subprocess.run(command, env=bucket, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Yield the environment for a bucket with a photograph and two OME-Zarr images, on a server on this machine."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0)
    boto3 = pytest.importorskip("boto3")
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys)
    client.create_bucket(Bucket="bucket")
    Image.fromarray(GREY).save(tmp_path / "a b.png")
    for version in ("0.4", "0.5"):
        write_ome_zarr(tmp_path / f"{version}.ome.zarr", GREY, "YX", (0.5, 0.5), "µm", version=version)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "bucket", path.relative_to(tmp_path).as_posix())
    client.close()
    environment = {name.upper(): value for name, value in keys.items()}
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), str(tmp_path / "none"))
    more = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_EC2_METADATA_DISABLED": "true"}
    yield {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment, **files, **more}
    server.stop()


def test_images_on_s3(bucket: dict[str, str]) -> None:
    photo, *images = read_from(bucket, *(f"s3://bucket/{name}" for name in ("a b.png", "0.4.ome.zarr", "0.5.ome.zarr")))
    assert photo == f"{GREY.shape} {GREY.sum()} None"
    assert images == [f"{GREY.shape} {GREY.sum()} (0.5, 0.5)"] * 2


def test_what_is_not_on_s3_is_one_line(bucket: dict[str, str]) -> None:
    addresses = ["s3://bucket/none.png", "s3://bucket/none.ome.zarr", "s3://no-such-bucket/a.png"]
    assert read_from(bucket, *addresses) == [f"there is no file {name}. Check the address." for name in addresses]
    anonymous = {name: value for name, value in bucket.items() if "ACCESS_KEY" not in name}
    [line] = read_from(anonymous, "s3://bucket/a b.png")
    assert line.endswith("or FSSPEC_S3_ANON=true for public buckets.")


# ---- errors --------------------------------------------------------------------------------------------------------


def failing(error: Exception) -> Callable[[str], Any]:
    """Return a replacement of `url_to_fs` of fsspec that raises an error."""

    def fail(_: str) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (type("NoCredentialsError", (Exception,), {})("No credentials."), "No credentials. Set AWS_ACCESS_KEY_ID"),
        (PermissionError("Forbidden"), "Forbidden. Check the credentials."),
        (TimeoutError(), "does not answer within 15 s. Check the address and the network."),
        (OSError("first\nsecond"), "first. Check the address and the network."),
        (RuntimeError(), "RuntimeError. Check the address and the network."),
    ],
    ids=["credentials", "permission", "timeout", "two lines", "no message"],
)
def test_errors_are_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    core = pytest.importorskip("fsspec.core")
    monkeypatch.setattr(core, "url_to_fs", failing(error))
    with pytest.raises(InputError) as caught:
        read_image("s3://bucket/a.png")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(remote, "_PATIENCE", 0.2)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with pytest.raises(InputError, match=r"does not answer within 0\.2 s"):
            read_image(f"http://127.0.0.1:{server.getsockname()[1]}/a.png")


# ---- results -------------------------------------------------------------------------------------------------------


WRITE: dict[str, Callable[[Any], object]] = {
    "an image": lambda path: write_image(f"{path}.png", GREY, "YX"),
    "a check": lambda path: check_target(Path(f"{path}.tif"), np.uint8, "YX", (4, 4)),
    "OME-Zarr": lambda path: write_ome_zarr(f"{path}.ome.zarr", GREY, "YX"),
    "blocks": lambda path: ns.fit_blocks(GREY, f"{path}.ome.zarr", 2),
    "a folder": lambda path: prepare_folder(Path(path)),
}


@pytest.mark.parametrize("name", WRITE)
def test_results_are_not_written_to_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match=r"^cannot write to the address s3://bucket/x.*copy it to the address\.$"):
        WRITE[name]("s3://bucket/x")
    assert not list(tmp_path.iterdir())
