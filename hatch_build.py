"""The hooks of the build: the compiled kernel in the wheels, and the links of README.md in the description on PyPI.

The kernel is compiled for several instruction sets, and the libraries are put in the wheel. Without a C compiler the
wheel is a pure one. The kernel is then compiled at its first use, or PyTorch is used, which is slower. The libraries
never lie in the source tree, so that a checkout always uses its own sources.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

_PACKAGE = "napari_siren/core/native"
# Oldest macOS of the wheels. It is the first one on Apple's processors.
_MACOS = "11.0"

# Links and pictures of Markdown to files of the repository: "!" of a picture, text, path.
_RELATIVE = re.compile(r"(!?)\[([^]]*)\]\((?!https?:|mailto:|#)([^)\s]+)\)")


class ReadmeHook(MetadataHookInterface):
    """The description of the package: README.md, with links and pictures that work outside the repository."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the description."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        source = metadata.get("urls", {}).get("Source")
        ref = f"v{metadata['version']}"
        metadata["readme"] = {"content-type": "text/markdown", "text": describe(text, source, ref)}


def describe(text: str, source: str | None, ref: str) -> str:
    """Return Markdown whose relative links and pictures have absolute addresses.

    Parameters
    ----------
    text
        Markdown of the repository.
    source
        Address of the repository on GitHub. If None, links become plain text, and pictures are left out.
    ref
        Tag of the release.
    """

    def absolute(match: re.Match[str]) -> str:
        picture, words, path = match.groups()
        if source is None:
            return "" if picture else words
        return f"{picture}[{words}]({source.rstrip('/')}/{'raw' if picture else 'blob'}/{ref}/{path})"

    # What a picture leaves behind is an empty paragraph.
    return re.sub(r"\n{3,}", "\n\n", _RELATIVE.sub(absolute, text))


class KernelHook(BuildHookInterface[Any]):
    """The compiled kernel in a wheel. An editable installation compiles nothing here."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the libraries, and add them and their manifest to the wheel."""
        if version == "editable":
            return
        compiler = _load_compiler(Path(self.root))
        try:
            self._scratch = tempfile.TemporaryDirectory()
            files = _compile(compiler, Path(self._scratch.name))
        except (OSError, subprocess.SubprocessError) as error:
            self.app.display_warning(
                f"The wheel is built without the compiled kernel: {compiler.failure_reason(error)}. "
                "napari-siren works without it, but fits on the CPU are slower."
            )
            return
        build_data["force_include"] |= {str(path): f"{_PACKAGE}/prebuilt/{path.name}" for path in files}
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform_tag()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Delete the libraries. Their copies are in the wheel."""
        if version != "editable":
            self._scratch.cleanup()


def _load_compiler(root: Path) -> ModuleType:
    """Load compiler.py without the package. The dependencies of the package are not installed during a build."""
    spec = importlib.util.spec_from_file_location("compiler", root / "src" / _PACKAGE / "compiler.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _compile(compiler: ModuleType, folder: Path) -> list[Path]:
    """Compile a library for each instruction set, and write the manifest for core/native/prebuilt.py."""
    levels = compiler.levels()
    if not levels:
        raise OSError(f"it is not prepared for {platform.machine()}")
    command, suffix = _command(compiler), ".dll" if os.name == "nt" else ".so"
    manifest = []
    for name, flags in levels.items():
        path = folder / f"siren_{name}{suffix}"
        compiler.compile_library(command, flags, path)
        manifest.append({"name": name, "file": path.name, "sha256": compiler.file_hash(path)})
    text = folder / "manifest.json"
    text.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return [folder / level["file"] for level in manifest] + [text]


def _command(compiler: ModuleType) -> list[str]:
    """Return the command of the compiler, with the flags of the system."""
    if os.name == "nt":
        # The sources need clang: see siren.h. Without a target, it compiles for the instructions of this machine only.
        if importlib.util.find_spec("ziglang") is None:
            raise OSError("the package ziglang, which contains the C compiler for Windows, is not installed")
        family = "aarch64" if platform.machine().lower() == "arm64" else "x86_64"
        return [sys.executable, "-m", "ziglang", "cc", "-target", f"{family}-windows-gnu"]
    path = compiler.find_compiler()
    if path is None:
        raise OSError("no C compiler was found (gcc 12 or later, or clang)")
    return [path, f"-mmacosx-version-min={_MACOS}"] if sys.platform == "darwin" else [path]


def _platform_tag() -> str:
    # A Python for two processor families names both, but the libraries are for one.
    if sys.platform == "darwin":
        return f"macosx_{_MACOS.replace('.', '_')}_{platform.machine()}"
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
