"""Tests of the form of settings: it has every field of the model, and it returns the values that it shows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QLineEdit, QPushButton, QScrollArea

from napari_siren.core.settings.config import FitConfig
from napari_siren.core.settings.presets import PRESET_NAMES
from napari_siren.core.settings.tasks import TASKS
from napari_siren.errors import ConfigError
from napari_siren.ui.panels import settings_form
from napari_siren.ui.panels.settings_form import SettingsForm
from napari_siren.ui.widgets.setting_editors import Editor

FIELDS = [name for name in FitConfig.model_fields if name not in ("name", "psf")]


@pytest.fixture
def form(qtbot: Any) -> SettingsForm:
    widget = SettingsForm()
    qtbot.addWidget(widget)
    return widget


@pytest.fixture
def told(form: SettingsForm) -> list[dict[str, Any]]:
    """The overrides, one entry for each change reported by the form."""
    told: list[dict[str, Any]] = []
    form.changed.connect(lambda: told.append(form.overrides()))
    return told


def editor(form: SettingsForm, name: str) -> Any:
    return form.findChild(Editor, name)


def label(form: SettingsForm, name: str) -> Any:
    return form.findChild(QLabel, name)


def shown(form: SettingsForm) -> list[str]:
    assert [n for n in FIELDS if label(form, n).isVisible()] == [n for n in FIELDS if editor(form, n).isVisible()]
    return [name for name in FIELDS if editor(form, name).isVisible()]


def reset_button(form: SettingsForm) -> Any:
    return form.findChild(QPushButton)


def filter_by(form: SettingsForm, text: str) -> list[str]:
    form.findChild(QLineEdit, options=Qt.FindChildOption.FindDirectChildrenOnly).setText(text)
    return shown(form)


def bold(form: SettingsForm) -> set[str]:
    return {name for name in FIELDS if label(form, name).font().bold()}


# ---- every field -------------------------------------------------------------------------------------


def test_every_field_but_the_presets_name_has_an_editor(form: SettingsForm) -> None:
    form.show()
    assert shown(form) == FIELDS
    assert editor(form, "name") is None
    assert label(form, "muon_learning_rate").text() == "Step size of Muon"


def test_a_new_field_appears_by_itself(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wider(FitConfig):
        pixel_blur: Annotated[float, Field(ge=0, le=3)] | Literal["auto"] = "auto"
        """Width of the `blur` <of the pixels>."""

    monkeypatch.setattr(settings_form, "FitConfig", Wider)
    form = SettingsForm()
    qtbot.addWidget(form)
    assert form.config().pixel_blur == "auto"
    form.set_config(Wider(pixel_blur=1.5))
    assert form.overrides() == {"pixel_blur": 1.5}
    assert label(form, "pixel_blur").text() == "pixel blur"
    tip = editor(form, "pixel_blur").toolTip()
    assert "Width of the <code>blur</code> &lt;of the pixels&gt;." in tip
    assert "range: at least 0, at most 3" in tip


def test_tooltips_give_name_meaning_default_and_range(form: SettingsForm) -> None:
    form.set_preset("paper")
    tip = label(form, "learning_rate").toolTip()
    assert tip == editor(form, "learning_rate").toolTip()
    assert "<b>learning_rate</b>" in tip
    assert "Adam's step size." in tip
    assert "paper: 0.0001" in tip
    assert "range: above 0, at most 1" in tip
    assert "<code>memory_fraction</code> of the free memory" in editor(form, "max_memory").toolTip()
    assert "`" not in "".join(editor(form, name).toolTip() for name in FIELDS)


def test_pretrained_networks_are_suggested(form: SettingsForm) -> None:
    combo = editor(form, "pretrained").combo
    assert [combo.itemText(i) for i in range(combo.count())] == ["auto", "general", "microscope", "none"]
    editor(form, "pretrained").set_value(None)
    assert form.config().pretrained is None
    assert form.overrides() == {"pretrained": None}


# ---- settings in and out -----------------------------------------------------------------------------


def values_of(name: str) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a field, within the bounds of the model."""
    if name == "tile":
        return st.integers(4, 2**31) | st.sampled_from(["auto", "whole"])
    if name == "total_variation":
        return st.floats(0, 10) | st.just("auto")
    if name == "psf_width":
        widths = st.floats(0.1, 10)
        return widths | st.just("auto") | st.tuples(widths, widths) | st.tuples(widths, widths, widths)
    if name == "camera_gain":
        return st.floats(0.1, 10) | st.just("auto")
    if name == "adapt":
        return st.integers(1, 10**9) | st.sampled_from(["auto", "off"])
    if name == "camera_offset":
        return st.floats(-1000, 1000)
    if name == "psf":
        return st.just(((1.0, 2.0), (3.0, 4.0)))
    if name == "pretrained":
        words = st.sampled_from(["auto", "general", "microscope"])
        # Spaces at the ends do not come back, and "none" is None.
        paths = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1)
        return st.none() | words | paths.filter(lambda path: path != "none")
    field = FitConfig.model_fields[name]
    kind: Any = field.annotation
    if get_origin(kind) is Literal or kind is bool:
        return st.from_type(kind)
    numbers = [k for k in (get_args(kind) or (kind,)) if k is not type(None)]
    if get_origin(numbers[0]) is Literal:
        return st.none() | st.from_type(numbers[0])
    number = st.from_type(Annotated[(numbers[0], *field.metadata)]).filter(math.isfinite)
    return number if get_origin(kind) is None else st.none() | number


@st.composite
def configs(draw: st.DrawFn) -> FitConfig:
    fields = draw(st.fixed_dictionaries({name: values_of(name) for name in FitConfig.model_fields}))
    if fields["observation"] == "point" and fields["total_variation"] != 0:
        fields["observation"] = "box"
    task = TASKS.get(fields["task"])
    if task is None or fields["observation"] not in task.observations:
        fields["task_steps"] = 0
    if fields["observation"] != "gaussian":
        fields["psf_width"] = None
    if fields["observation"] != "measured":
        fields["psf"] = None
    if fields["tile"] != "whole":
        fields["coordinates"] = "pixel"
    return FitConfig(**fields)


def test_what_is_shown_comes_back(form: SettingsForm, told: list[Any]) -> None:
    @settings(max_examples=60)
    @given(configs())
    def check(config: FitConfig) -> None:
        form.set_config(config)
        assert form.config() == config
        preset = FitConfig.preset(config.name)
        names = [*FIELDS, "psf"]
        differing = {n: getattr(config, n) for n in names if getattr(config, n) != getattr(preset, n)}
        assert form.overrides() == differing
        assert bold(form) == set(differing) - {"psf"}

    check()
    assert told == []


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_presets_come_back_with_nothing_marked(form: SettingsForm, told: list[Any], name: str) -> None:
    form.set_config(FitConfig(max_steps=3, band=0.1))
    form.set_preset(name)
    assert form.config() == FitConfig.preset(name)
    assert (form.overrides(), bold(form), told) == ({}, set(), [])
    assert not reset_button(form).isEnabled()


def test_an_unknown_preset_leaves_the_form_as_it_was(form: SettingsForm) -> None:
    config = FitConfig.preset("fast", max_steps=9)
    form.set_config(config)
    with pytest.raises(ConfigError, match="did you mean 'faithful'"):
        form.set_preset("faithfull")
    assert form.config() == config


def test_settings_at_odds_are_refused_in_words(form: SettingsForm) -> None:
    form.set_config(FitConfig.preset("upscale"))
    editor(form, "observation").set_value("point")
    with pytest.raises(ConfigError, match="observation="):
        form.config()
    assert form.overrides() == {"observation": "point"}
    form.set_preset("faithful")
    editor(form, "tile").set_value(3)
    with pytest.raises(ConfigError, match="4 pixels or more"):
        form.config()


# ---- the user ----------------------------------------------------------------------------------------


def edits(form: SettingsForm, qtbot: Any) -> Iterator[dict[str, Any]]:
    """Change settings like a user, and yield the expected overrides after each change."""
    editor(form, "standardise").box.click()
    wanted: dict[str, Any] = {"standardise": False}
    yield wanted
    number = editor(form, "learning_rate").number
    number.selectAll()
    qtbot.keyClicks(number, "0.0001")
    qtbot.keyClick(number, Qt.Key.Key_Return)
    wanted |= {"learning_rate": 0.0001}
    yield wanted
    qtbot.keyClick(editor(form, "optimizer").combo, Qt.Key.Key_Down)
    wanted |= {"optimizer": "adam"}
    yield wanted
    editor(form, "max_seconds").box.click()
    wanted |= {"max_seconds": 60.0}
    yield wanted
    qtbot.keyClick(editor(form, "tile").combo, Qt.Key.Key_End)
    wanted |= {"tile": 64}
    yield wanted
    qtbot.keyClick(editor(form, "optimizer").combo, Qt.Key.Key_Up)
    del wanted["optimizer"]
    yield wanted


def test_each_change_is_told_once_and_marked(form: SettingsForm, told: list[Any], qtbot: Any) -> None:
    for count, wanted in enumerate(edits(form, qtbot), 1):
        assert len(told) == count
        assert told[-1] == wanted
        assert bold(form) == set(wanted)
        assert form.config() == FitConfig(**wanted)
        assert reset_button(form).isEnabled()


def test_reset_puts_the_preset_back(form: SettingsForm, told: list[Any]) -> None:
    form.set_config(FitConfig.preset("fast", max_steps=9, threads=2))
    reset_button(form).click()
    assert form.config() == FitConfig.preset("fast")
    assert told == [{}]
    assert not reset_button(form).isEnabled()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("muon learning", ["muon_learning_rate"]),
        ("MUON_LEARNING", ["muon_learning_rate"]),
        ("nesterov", ["momentum"]),
        ("bytes", ["max_memory"]),
        ("", FIELDS),
        ("quantum", []),
    ],
)
def test_the_filter_looks_at_names_and_descriptions(form: SettingsForm, text: str, names: list[str]) -> None:
    form.show()
    assert filter_by(form, "zzz") == []
    assert filter_by(form, text) == names
    said = [w.text() for w in form.findChildren(QLabel) if w.isVisible() and w.text() == "No setting matches."]
    assert bool(said) == (not names)


def test_the_filter_hides_and_does_not_reset(form: SettingsForm) -> None:
    form.set_config(FitConfig(max_steps=9))
    form.show()
    filter_by(form, "band")
    assert form.overrides() == {"max_steps": 9}


def test_it_fits_a_narrow_dock(qtbot: Any) -> None:
    form = SettingsForm()
    form.set_config(FitConfig(tile=48, max_memory=2**40, threads=8, parameters_per_value=0.123456789, band=1e-5))
    area = QScrollArea()
    qtbot.addWidget(area)
    area.setWidgetResizable(True)
    area.setWidget(form)
    area.resize(300, 400)
    area.show()
    assert area.verticalScrollBar().maximum() > 0
    assert area.horizontalScrollBar().maximum() == 0
