"""JSON from files: strict, bounded in depth, and described in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from napari_siren.core.settings.config import FitConfig
from napari_siren.core.storage.records import parse_hashed_json, parse_json, shortened, with_hash
from napari_siren.errors import ConfigError


@pytest.mark.parametrize(
    "text",
    ["", "{", "NaN", "[Infinity]", "[" * 33 + "]" * 33, "[" * 100_000 + "]" * 100_000, '{"a":' * 5000, "9" * 10_000],
    ids=lambda text: text[:10],
)
def test_other_text_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(text)


def test_nesting_up_to_the_bound_is_read() -> None:
    assert parse_json("[" * 32 + "]" * 32)


def test_a_changed_entry_is_noticed() -> None:
    entries = with_hash({"a": 1, "b": (0.1, float("inf")), "c": None})
    text = json.dumps(entries)
    assert parse_hashed_json(text) == entries == {"a": 1, "b": [0.1, "inf"], "c": None, "sha256": entries["sha256"]}
    # The hash of entries that were read is the same.
    assert with_hash(entries) == entries
    changed = [text.replace('"a": 1', new) for new in ('"a": 2', '"a": true', '"d": 1')]
    for hostile in ('{"a": 1}', "[]", *changed):
        with pytest.raises(ValueError, match="changed after it was written"):
            parse_hashed_json(hostile)


def test_values_are_shown_on_one_short_line() -> None:
    text = shortened("\x1b[2J\n" * 1000)
    assert len(text) <= 60
    assert text.isprintable()


HOSTILE: tuple[Any, ...] = (
    *(None, True, -1, 10**30, 1e308, "x", "inf", "nan", "", [], {}, [[1, 2], [3]], [[[[[[1]]]]]]),
    *("\x1b[31m" * 1000, "9" * 5000),
)


@pytest.mark.parametrize("name", [*FitConfig.model_fields, "cls", "self", "blind_spot_steps"])
def test_every_hostile_setting_is_a_setting_or_an_error_of_one_line(tmp_path: Path, name: str) -> None:
    path, messages = tmp_path / "settings.json", []
    for value in HOSTILE:
        path.write_text(json.dumps({name: value}))
        try:
            FitConfig.from_file(path)
        except ConfigError as error:
            messages.append(str(error))
    assert all(len(message) < 400 and message.isprintable() for message in messages)
