"""`Record`: a part of a file that is validated before it is used, and the reading of JSON from files."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from napari_siren.core.storage.atomic import json_safe

# Deepest nesting of lists and objects in a file: a point spread function in a stack is nested seven times.
_DEPTH = 32
# Name of the entry with the hash of the others.
_HASH = "sha256"
# Longest part of a value in a message, in characters.
_SHOWN = 60


class Record(BaseModel):
    """A part of a file. Unknown entries are ignored, so that files of later versions of the same format load."""

    model_config = ConfigDict(frozen=True, extra="ignore")


# A finite number.
Finite = Annotated[float, Field(allow_inf_nan=False)]
# A finite number above 0. The bounds keep ratios and squares of such numbers finite.
Positive = Annotated[float, Field(ge=1e-30, le=1e30)]
# Number of pixels, tiles or samples along an axis.
Length = Annotated[int, Field(ge=1, le=2**31)]
# Number of steps, bytes or nanoseconds.
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
# A number that may be infinite. Strict JSON has no NaN, and files have null instead.
Number = Annotated[float, BeforeValidator(lambda value: float("nan") if value is None else value)]


def parse_json(text: str | bytes) -> Any:
    """Return the values of strict JSON.

    Raises
    ------
    ValueError
        The text is not JSON, contains a number that is not finite, or is nested too deeply.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError(f"lists or objects are nested more than {_DEPTH} times") from None
    level: list[Any] = [value]
    for _ in range(_DEPTH):
        level = [item for container in level for item in _items(container)]
        if not level:
            return value
    raise ValueError(f"lists or objects are nested more than {_DEPTH} times")


def with_hash(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a JSON file with their hash, to detect damage; see `parse_hashed_json`."""
    entries = {name: value for name, value in json_safe(content).items() if name != _HASH}
    return {**entries, _HASH: hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()}


def parse_hashed_json(text: str | bytes) -> dict[str, Any]:
    """Return the entries of strict JSON with a hash; see `with_hash`.

    Raises
    ------
    ValueError
        The text is not such JSON, has no hash, or an entry changed after it was written.
    """
    entries = parse_json(text)
    if not isinstance(entries, dict) or with_hash(entries) != entries:
        raise ValueError("its contents changed after it was written")
    return entries


def describe_error(error: Exception) -> str:
    """Return one line about an exception; of a `ValidationError`, only the first problem and its position."""
    if isinstance(error, ValidationError):
        item = error.errors(include_url=False, include_context=False)[0]
        position = ".".join(map(str, item["loc"]))
        return f"{position}: {item['msg'].removeprefix('Value error, ')}, got {shortened(item['input'])}"
    if isinstance(error, KeyError):
        return f"{shortened(error.args[0] if error.args else '')} is absent"
    return shortened(str(error), 4 * _SHOWN, quoted=False)


def shortened(value: Any, length: int = _SHOWN, quoted: bool = True) -> str:
    """Return a value as text of one line, without control characters, cut to a length."""
    text = repr(value)[: 2 * length] if quoted else str(value)
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= length else line[: length - 1] + "…"


def explain_fields(error: ValidationError, known: Iterable[str]) -> str:
    """Return one line about all problems of settings. The message for an unknown name has the closest known name."""
    lines = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"][:1])
        if item["type"] == "extra_forbidden":
            lines.append(f"there is no setting {shortened(field)}{nearest(field, known)}")
        elif field:
            lines.append(f"{field}: {item['msg']} (got {shortened(item['input'])}).")
        else:
            lines.append(item["msg"].removeprefix("Value error, ") + ".")
    return " ".join(dict.fromkeys(lines))


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return a question with the choice closest to a name, or a full stop if none is close."""
    close = difflib.get_close_matches(name[:_SHOWN], list(choices), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else "."


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of strict JSON")
