"""Variables can be read by templates but never changed."""

import copy

import pytest
from pydantic import JsonValue

from streamer.mail.templates import RenderError, Templates
from streamer.mail.values import OutOfRangeError, readable

_TEMPLATES = Templates(1_000_000)


@pytest.mark.parametrize(
    "template",
    [
        "{{ l.append(1) }}",
        "{{ l.clear() }}",
        "{{ l.count(1) }}",
        "{{ l() }}",
        "{{ o.update(a=2) }}",
        "{{ o.pop('a') }}",
        "{{ o.get() }}",
        "{{ o.get([]) }}",
        "{{ o.copy() }}",
        "{{ o._values }}",
        "{{ o['_values'] }}",
        "{{ o|attr('_values') }}",
        "{{ o._list('keys') }}",
        "{{ o.get.__self__ }}",
        "{{ o.__class__ }}",
        "{{ o['__class__'] }}",
        "{{ l.__class__ }}",
        "{{ s.__class__ }}",
        "{{ n.__class__ }}",
        "{{ l.__len__() }}",
    ],
)
def test_templates_cannot_modify_or_inspect_values(template: str) -> None:
    given: dict[str, JsonValue] = {"l": [1, {"a": [2]}], "o": {"a": 1}, "s": "s", "n": 1}
    before = copy.deepcopy(given)
    with pytest.raises(RenderError):
        _TEMPLATES.render_text(template, readable(given))
    assert given == before


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400])
def test_a_number_out_of_range_is_named(number: int) -> None:
    with pytest.raises(OutOfRangeError, match=r"points: the number"):
        readable({"points": [{"a": number}]})
    with pytest.raises(OutOfRangeError, match=r"points: the number"):
        readable({"name": "a", "points": number})


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 0, -1.5])
def test_numbers_in_range_are_rendered(number: float) -> None:
    assert _TEMPLATES.render_text("{{ n }}", readable({"n": number})) == str(number)
