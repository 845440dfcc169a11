"""The choice of a compiler, and of the instruction sets of a wheel."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence

import pytest

from napari_siren.core.native import compiler


@pytest.mark.parametrize(
    ("system", "machine", "names"),
    [
        ("linux", "x86_64", ["sse2", "avx2", "avx512", "amx"]),
        ("win32", "AMD64", ["sse2", "avx2", "avx512"]),
        ("linux", "aarch64", ["neon"]),
        ("darwin", "arm64", ["neon"]),
        ("linux", "riscv64", []),
    ],
)
def test_instruction_sets_of_a_system(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, names: list[str]
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert list(compiler.levels()) == names


@pytest.mark.parametrize("has_tools", [True, False])
def test_the_stub_of_macos_is_not_run(monkeypatch: pytest.MonkeyPatch, has_tools: bool) -> None:
    commands = []

    def run(command: Sequence[str]) -> bytes:
        commands.append(list(command))
        if not has_tools:
            raise subprocess.CalledProcessError(2, command)
        return b"/Library/Developer/CommandLineTools"

    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(compiler, "run_compiler", run)
    assert compiler.find_compiler() == ("/usr/bin/cc" if has_tools else None)
    assert all(command == ["/usr/bin/xcode-select", "-p"] for command in commands)
