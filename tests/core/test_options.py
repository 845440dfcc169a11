"""The types of the keyword arguments are those of `FitConfig` and of `fit`."""

from __future__ import annotations

import inspect
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

import napari_siren as ns
from napari_siren.core import options
from napari_siren.core.settings.config import FitConfig


def hints(cls: type, names: dict[str, Any] | None = None) -> dict[str, Any]:
    return get_type_hints(cls, localns=names)


def words(annotation: Any) -> set[Any]:
    """Return all values of the literals in an annotation, and None if it is allowed."""
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    found: set[Any] = {None} if annotation in (None, NoneType) else set()
    return found.union(*(words(part) for part in get_args(annotation)))


def test_the_settings_are_the_fields_of_the_configuration() -> None:
    fields = {name: field.annotation for name, field in FitConfig.model_fields.items() if name != "name"}
    settings = hints(options.FitSettings)
    assert list(settings) == list(fields)
    assert {name: words(settings[name]) for name in fields} == {name: words(kind) for name, kind in fields.items()}


def test_the_options_are_the_arguments_of_a_fit() -> None:
    parameters = inspect.signature(ns.fit).parameters
    own = [name for name in options.FitOptions.__annotations__ if name not in FitConfig.model_fields]
    assert own == [name for name in parameters if name not in ("image", "axes", "spacing", "overrides")]


VERBS = (ns.fit, ns.fit_iter, ns.upscale, ns.denoise, ns.deblur, ns.isotropic, ns.fit_series, ns.fit_burst)
MORE = (ns.flatten_illumination, ns.blend, ns.fit_layer, ns.fit_blocks, ns.fit_batch)


@pytest.mark.parametrize("verb", [*VERBS, *MORE], ids=lambda verb: verb.__name__)
def test_arguments_have_one_order(verb: Any) -> None:
    parameters = inspect.signature(verb).parameters.values()
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    settings = options.FitSettings.__annotations__
    order = ["axes", "spacing", *(name for name in options.FitOptions.__annotations__ if name not in settings)]
    if verb in (ns.fit_blocks, ns.fit_batch):  # whether to go on, no result to go on from
        order.remove("resume")
    common = [name for name in keywords if name in order]
    assert common == [name for name in order if name in common]
    # The arguments that only this function has follow the common ones.
    assert keywords[: len(common)] == common
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][1:] in (
        [],
        ["scale"],
        ["out", "scale"],
        ["into", "mask"],
    )
