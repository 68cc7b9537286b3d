"""What templates may use, and that no accepted template can crash the process."""

import contextlib
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from minijinja import Environment, TemplateError, _lowlevel

from streamer.mail.language import narrow
from streamer.mail.tags import TemplateRefusedError
from streamer.mail.templates import (
    RenderError,
    Templates,
    TooLargeError,
    UndefinedError,
    Variables,
)
from streamer.mail.values import readable

_MAX = 1_000_000
_DEEP = {
    "not": "{{ " + "not " * 5000 + "1 }}",
    "minus": "{{ " + "-" * 5000 + "1 }}",
    "filters": "{{ 'x'" + "|upper" * 5000 + " }}",
    "tildes": "{{ 'x'" + "~'x'" * 5000 + " }}",
    "attributes": "{{ x" + ".x" * 5000 + " }}",
    "after a text": "{{ '}}' ~ " + "not " * 5000 + "1 }}",
    "after a comment": "{# {{ ' #}{{ " + "not " * 5000 + "1 }}",
    "after raw": "{% raw %}{{ ' {% endraw %}{{ " + "not " * 5000 + "1 }}",
    "unclosed": "{{ " + "not " * 5000,
    "elif": "{% if 0 %}" + "{% elif 0 %}" * 5000 + "{% endif %}",
    "set": "{% set a = 'x' %}" + "{% set a = a[0:] %}" * 5000,
}


@pytest.mark.parametrize("source", _DEEP.values(), ids=_DEEP)
def test_templates_that_would_overflow_the_stack_are_refused(source: str) -> None:
    with pytest.raises(TemplateRefusedError):
        narrow(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "not " * 398 + "1 }}",
        "{{ 'x'" + "|upper" * 199 + " }}",
        "{% if 0 %}" + "{% elif 0 %}" * 200 + "{% endif %}",
        "{% set a = x %}" + "{% set a = a[0:] %}" * 99 + "{{ a }}",
        "{% set a = x %}" + "{% set a = a|reverse %}" * 99 + "{{ a }}",
    ],
)
def test_accepted_templates_fit_a_small_stack(source: str) -> None:
    done: list[str] = []
    before = threading.stack_size(512 * 1024)
    try:
        thread = threading.Thread(
            target=lambda: done.append(
                Templates(_MAX).render_html(source, readable({"x": ["a", "b"]}))
            )
        )
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert len(done) == 1


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{% macro f() %}{% endmacro %}", r"\{% macro %\}"),
        ("{% include 'x' %}", r"\{% include %\}"),
        ("\n\n{%- import 'x' as y %}", r"\{% import %\} is not allowed \(line 3\)"),
        ("{% extends 'x' %}", r"\{% extends %\}"),
        ("{% block x %}{% endblock %}", r"\{% block %\}"),
        ("{% for x in items recursive %}{% endfor %}", "recursive"),
        ("{{ items * 1000000 }}", "numbers on both sides"),
        ("{{ 1000000 * items }}", "numbers on both sides"),
        ("{{ items.0 * 2 }}", "numbers on both sides"),
        ("{{ (items) * n|int }}", "numbers on both sides"),
        ("{{ n|int(items) * items }}", "numbers on both sides"),
        ("{{ '\\'}}' ~ items * 2 }}", "numbers on both sides"),
        ("{{ 5|list * 3 }}", "numbers on both sides"),
        ("{{ [x, x] }}", "constants"),
        ("{{ {'a': [x]} }}", "constants"),
        ("{{ (x, x) }}", "constants"),
        ("{% for a in [[x]] %}{% endfor %}", "constants"),
        ("{% if [x] %}{% endif %}", "constants"),
        ("{% set a = x, x %}", "one value"),
        ("{% for a in x, x %}{% endfor %}", "one value"),
        ("{% set a = a + a %}", "needs a number"),
        ("{% with a = a + a %}{% endwith %}", "needs a number"),
        ("{% set ns = namespace(a=ns) %}", "constants"),
        ("{% set n = namespace %}", "namespace"),
        ("{% set ns.a = ns %}", "a number or a string"),
        ("{% set (ns.a) = ns %}", "a number or a string"),
        ("{% set ns.a = x ~ y if x else ns %}", "a number or a string"),
        ("{% set ns.a = (x ~ y) or ns %}", "a number or a string"),
        ("{% set ns.a = x[a - b:] %}", "a number or a string"),
        ("{% set ns.a = x|default(ns) %}", "a number or a string"),
        ("{{ items|map('default', items) }}", "map accepts one"),
        ("{{ items|map(attribute='a', default=items) }}", "map accepts one"),
        ("{{ '{:99}'.format(1) }}", "use the filter"),
        ("{{ x|tojson(indent=9) }}", "tojson"),
    ],
)
def test_forbidden_constructs_are_refused(source: str, words: str) -> None:
    with pytest.raises(TemplateRefusedError, match=words):
        narrow(source)


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("{% for k, v in o.items() %}{{ k }}={{ v }};{% endfor %}", "a=1;b=2;"),
        ("{% for k, v in o|items %}{{ k }}={{ v }};{% endfor %}", "a=1;b=2;"),
        ("{% for k in o %}{{ k }}{% else %}none{% endfor %}", "ab"),
        ("{{ o.keys()|join }}{{ o.values()|join }}{{ o.get('z', 3) }}{{ o|length }}", "ab1232"),
        ("{% for i in l %}{{ loop.index * 2 }}{{ i.n }} {% endfor %}", "2x 4y "),
        ("{{ l|map(attribute='n')|join(', ') }}{{ l|map('string')|first }}", "x, y{'n': 'x'}"),
        ("{{ l[0].n }}{{ l.1.n }}{{ l[-1]['n'] }}{{ l[1:]|length }}{{ l|length }}", "xyy12"),
        (
            "{{ price|float * 2 }} {{ 2 * n|int }} {{ (n + 1)|float * 2 }} {{ 2 * 3 }}",
            "5.0 6 8.0 6",
        ),
        ("{{ n + n - 1 }} {{ -n }} {{ 'a' + 'b' }} {{ 'ab' * n }}", "5 -3 ab ababab"),
        ("{% set t = n + 1 %}{% set u = t|float + n %}{{ u }}", "7.0"),
        ("{% set t %}<{{ n }}>{% endset %}{{ t }}", "<3>"),
        ("{% set a = 'x' %}{% with b = a ~ 'y', c = 1 %}{{ b }}{{ c }}{% endwith %}", "xy1"),
        (
            "{% set ns = namespace(n=0, t='', f=false) %}{% for i in l %}"
            "{% set ns.n = ns.n + 1 %}{% set ns.t = ns.t ~ i.n %}{% set ns.f = true %}"
            "{% endfor %}{{ ns.n }}{{ ns.t }}{{ ns.f }}",
            "2xyTrue",
        ),
        ("{% if n in [1, 3] and 'x' not in ('y', 'z') %}in{% elif n %}out{% endif %}", "in"),
        ("{{ {'de': 'Hallo', 'en': {'a': [1]}}[lang] }}", "Hallo"),
        ("{{ name.split(' ')[0] }} {{ name.upper() }} {{ name|title }}", "ann ANN LEE Ann Lee"),
        ("{{ nobody|default('there') }} {{ nobody is defined }}", "there False"),
        ("{# {{ x * x }} #}{% raw %}{{ [x] }}{% macro %}{% endraw %}", "{{ [x] }}{% macro %}"),
        ("{%- filter upper -%} a {%- endfilter -%}", "A"),
        ("{{ '}}' ~ \"%}\" }}{% if '%}' %}b{% endif %}", "}}%}b"),
        ("{{ '%.2f'|format(price) }}", "2.50"),
        ("{% for i in range(3) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{{ o }} {{ l|tojson }}", '{\'a\': 1, \'b\': 2} [{"n": "x"}, {"n": "y"}]'),
    ],
)
def test_allowed_constructs_are_rendered(source: str, result: str) -> None:
    values = readable(
        {
            "o": {"a": 1, "b": 2},
            "l": [{"n": "x"}, {"n": "y"}],
            "n": 3,
            "price": 2.5,
            "lang": "de",
            "name": "ann lee",
        }
    )
    assert Templates(_MAX).render_text(source, values) == result


_PIECES = (
    *("{{", "}}", "{%", "%}", "{#", "#}", "-%}", "if", "for", "in", "set", "with", "raw", "endraw"),
    *(
        "endif",
        "endfor",
        "x",
        "xs",
        "o",
        "=",
        "+",
        "*",
        "~",
        "-",
        "|",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
    ),
    *(",", ".", ":", "'", '"', "\\", "1", "2.5", "'a'", "map", "list", "float", "not", "and", "ns"),
    *("namespace", "join", "range", "items", " ", "\n", "é", "\u2028", "\x0b"),
)


@given(st.lists(st.sampled_from(_PIECES), max_size=30).map(" ".join) | st.text())
def test_any_text_is_rendered_or_refused(source: str) -> None:
    values = readable({"x": "a", "xs": [1, [2]], "o": {"a": 1}, "ns": 1})
    for piece in (source, f"{{{{ {source} }}}}", f"{{% set a = {source} %}}{{{{ a }}}}"):
        with contextlib.suppress(RenderError, TooLargeError):
            Templates(10_000).render_html(piece, values)


@pytest.mark.parametrize(
    "source",
    [
        "{{ a|upper }} {{ a.b }} {{ 'a|e' }} a|e {# {{ a|e }} #}",
        "{% raw %}{{ a|e }}{% endraw %}",
        "{% filter upper|e %}a{% endfilter %}",
        "{% set a|e %}x{% endset %}",
        "{{ a is defined }} {{ a is not undefined|length }} {{ a|default(b) }} {{ a|d(b, true) }}",
        "{{ none|length }} {{ true|length }} {{ 1|length }} {{ [1]|length }} {{ f(x='y', z=1) }}",
        "{% for x in a|map(attribute='n') %}{{ x|default('-') }}{% endfor %}",
        "{{ a|map(attribute='n')|select('defined') }} {{ a|map('first')|reject('undefined') }}",
        "{{ f(a.b() < c.d()) }} {{ f(not a.b()) }} {{ 1 is eq l[-1] }}",
        "{{ a|join(', ') }} {{ a|sum(start=2) }} {{ a|join(', ', attribute=none) }}",
        "{{ unclosed",
    ],
)
def test_safe_expressions_are_not_rewritten(source: str) -> None:
    assert narrow(source).text == source


def test_variables_are_guarded_by_is_defined() -> None:
    source = "{% set x = a.b['c']|count %}\n{{ 'z' if y|length else a[i] | tojson }}{{ f(x) | e }}"
    assert narrow(source).text == (
        "{% set x = (a.b['c'] if a.b['c'] is defined else a.b['c'][0])|count %}\n"
        "{{ 'z' if (y if y is defined else y[0])|length else "
        "(a[i] if a[i] is defined else a[i][0]) | tojson }}"
        "{{ f((x if x is defined else x[0])) |string| e }}"
    )


def test_expressions_are_guarded_by_a_default() -> None:
    source = "{{ (a.b)|length }}\n{{ a|first | tojson }}{{ x|join(a.f(1)) }}"
    narrowed = narrow(source)
    assert narrowed.text == (
        "{{ (a.b)|default(streamer__absent[1])|length }}\n"
        "{{ a|first|default(streamer__absent[2]) | tojson }}"
        "{{ x|join(a.f(1)|default(streamer__absent[3])) }}"
    )
    assert narrowed.watched == (("(a.b)", 1), ("a|first", 2), ("a.f(1)", 2))


def test_items_are_guarded_by_a_default() -> None:
    narrowed = narrow("{{ a|map(attribute='n') }}{{ b.c|join(', ', attribute='n')|e }}")
    shown = "|map('default', streamer__absent[{0}])|select('ne', streamer__absent[0])"
    assert narrowed.text == (
        f"{{{{ a|map(attribute='n'){shown.format(1)} }}}}"
        f"{{{{ b.c|map(attribute='n'){shown.format(2)}|join(', ', attribute=none)|string|e }}}}"
    )
    assert [text for text, _ in narrowed.watched] == [
        "a|map(attribute='n')",
        "b.c|join(', ', attribute='n')",
    ]


_FILTERS = (
    *("abs", "attr('x')", "bool", "capitalize", "count", "dictsort", "e", "escape"),
    *("filesizeformat", "first", "float", "format(1)", "indent", "int", "items", "join", "last"),
    *("join(', ')", "join(', ', attribute='x')", "length", "lines", "list", "lower", "max", "min"),
    *("map('e')", "map('first')", "map(attribute='x')", "pluralize", "reject", "rejectattr('x')"),
    *("replace('a', 'b')", "reverse", "round", "safe", "select", "selectattr('x')", "sort"),
    *("sort(attribute='x')", "split", "string", "striptags", "sum", "sum(attribute='x')", "title"),
    *("tojson", "trim", "truncate", "truncate(length=9)", "unique", "upper", "urlencode"),
)
"""All filters of the engine that a mail may use, except `default` and `d`, which accept undefined
values."""
_VALUES = readable(
    {"d": {}, "e": [], "k": ["u"], "l": ["a"], "objs": [{"n": "x"}, {}], "ls": [["x"], []], "s": ""}
)
_UNDEFINED = (
    *("nobody", "d.u", "d['u']", "d[k[0]]", "(d.u)", "((nobody))", "d.u.v", "d|attr('u')"),
    *(
        "e|first",
        "e|last",
        "e|min",
        "e|max",
        "e[0]",
        "e[-1]",
        "s|first",
        "ls[1]|first",
        "(e|first)",
    ),
    *(
        "d.get('u')",
        "d.get(nobody)",
        "nobody|default(d.u)",
        "nobody|d(e|first)",
        "(d if 0 else d.u)",
    ),
    *(
        "l[9:][0]",
        "d.items()|first",
        "nobody.x()",
        "objs[1].n",
        "(objs|last).n",
        "objs|last|attr('n')",
    ),
)
_WITH_UNDEFINED_ITEMS = (
    *("objs|map(attribute='n')", "ls|map('first')", "objs|map(attribute='n')|list"),
    *("objs|map(attribute='n')|reverse", "(ls|map('last'))", "ls|map('min')|unique"),
)


@pytest.mark.parametrize("name", _FILTERS)
@pytest.mark.parametrize("render", [Templates.render_html, Templates.render_text])
def test_no_filter_accepts_undefined_values(
    name: str, render: Callable[[Templates, str, Variables], str]
) -> None:
    templates = Templates(_MAX)
    silent = []
    for expression in (*_UNDEFINED, *_WITH_UNDEFINED_ITEMS):
        if name in ("select", "reject") and expression in _WITH_UNDEFINED_ITEMS:
            continue  # these may filter undefined items
        for source in (
            f"{{{{ {expression}|{name} }}}}",
            f"{{% set x = {expression} %}}{{{{ x|{name} }}}}",
            f"{{% if ({expression}|{name})|string == 'a' %}}x{{% endif %}}",
        ):
            with contextlib.suppress(RenderError):
                silent.append((source, render(templates, source, _VALUES)))
    assert silent == []


def test_all_filters_are_covered() -> None:
    """The engine does not list its filters, so their names are searched in its library file."""
    tried = {name.partition("(")[0] for name in _FILTERS} | {"default", "d"}
    library = Path(_lowlevel.__file__).read_bytes()
    runs = {run.decode() for run in re.findall(rb"[a-z_]{3,}", library)}
    runs = {run for run in runs if any(len(name) > 3 and name in run for name in tried)}
    words = {run[i : i + size] for run in runs for i in range(len(run)) for size in range(1, 16)}
    known = set()
    for word in words:
        try:
            Environment().eval_expr(f"nobody|{word}")
        except TemplateError as error:
            if error.kind in ("UnknownFilter", "SyntaxError"):
                continue
        known.add(word)
    refused = {"batch", "chain", "groupby", "pprint", "slice", "wordwrap", "zip"}
    assert known == tried | refused


@pytest.mark.parametrize(
    "source",
    [
        *(
            f"{{{{ nobody is {test} }}}}"
            for test in ("none", "string", "even", "eq(1)", "not none")
        ),
        *("{{ d.u is sequence }}", "{{ 1 is eq(nobody) }}", "{{ 1 is ne nobody }}"),
        *("{{ l|join(nobody) }}", "{{ s|truncate(length=nobody) }}", "{{ 1.5|round(nobody) }}"),
        *(
            "{{ s|split(d|attr('u')) }}",
            "{{ range(2 - (nobody)) }}",
            "{{ [1]|sum(start=e|first) }}",
        ),
        *("{{ d.get('x', 1 < (nobody)) }}", "{{ '%s'|format(1 ~ (nobody)) }}"),
        *("{{ s|indent(e|first) }}", "{{ s|split(d['u']) }}", "{{ s.split(nobody) }}"),
        *("{{ objs|selectattr('n', 'eq', nobody)|list }}", "{{ s.strip(nobody) }}"),
        *("{{ d.get('x', nobody) }}", "{{ d.get(nobody, 'x') }}", "{{ joiner(nobody) }}"),
        "{% for x in l %}{{ loop.changed(nobody) }}{% endfor %}",
        "{% autoescape nobody %}x{% endautoescape %}",
        "{% for x in objs|map(attribute='n')|list %}{{ loop.index }}{% endfor %}",
        "{{ objs|map(attribute='n') }}",
        "{{ '%s'|format(objs|map(attribute='n')) }}",
        "{{ s.join(objs|map(attribute='n')) }}",
    ],
)
def test_tests_and_arguments_reject_undefined_values(source: str) -> None:
    with pytest.raises(RenderError):
        Templates(_MAX).render_text(source, _VALUES)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("{{ first_name|truncate }}", "first_name"),
        ("{{ (d.u)|tojson|length }}", "(d.u)"),
        ("{{ d[k[0]]|urlencode }}", "d[k[0]]"),
        ("{{ e|first|tojson }}", "e|first"),
        ("{{ d|attr('u') | urlencode }}", "d|attr('u')"),
        ("{{ objs|map(attribute='n')|join(',') }}", "objs|map(attribute='n')"),
        ("{{ objs|sum(attribute='n') }}", "objs|sum(attribute='n')"),
        ("{{ e[-1]|length }}", "e[-1]"),
        ("{{ nobody|default(d.u)|tojson }}", "nobody|default(d.u)"),
        ("{{ d.get('u') }}", "u"),
        ("{{ d.u is none }}", "d.u"),
        ("{{ l|join(who) }}", "who"),
        ("{{ e|first|truncate }}", "e|first"),
        ("{{ 1.5|round(e|first) }}", "e|first"),
        ("{{ e|first|length }}{{ l|first|length }}", "e|first"),
    ],
)
def test_undefined_expressions_are_named(source: str, named: str) -> None:
    with pytest.raises(UndefinedError) as error:
        Templates(_MAX).render_html(f"{{{{ l }}}}\n{source}", _VALUES)
    assert error.value.name == named
    assert named in str(error.value)


def test_other_errors_are_not_reported_as_undefined() -> None:
    with pytest.raises(RenderError) as error:
        Templates(_MAX).render_html("{{ l|first|length }}{{ 1 / 0 }}", _VALUES)
    assert not isinstance(error.value, UndefinedError)


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("{{ nobody|default('x') }}{{ d.u|d('y')|length }}{{ nobody is defined }}", "x1False"),
        ("{{ 'x' if d }}{{ ('x' if nobody is defined else 'y')|length }}", "1"),
        ("{% for x in objs|map(attribute='n') %}{{ x|default('-') }}{% endfor %}", "x-"),
        ("{{ objs|map(attribute='n')|select('defined')|join }}", "x"),
        ("{{ objs|selectattr('n', 'defined')|map(attribute='n')|join(', ') }}", "x"),
        ("{{ d.get('u', 'x') }}{{ d.get('u', none) }}", "xNone"),
        ("{{ l|map('upper')|join(attribute=none) }}{{ [{'n': 2}]|sum(attribute='n') }}", "A2"),
        ("{{ (l|map('upper'))[0] }}{{ l|map('upper')|last }}{{ l|map('upper') }}", "AA['A']"),
        ("{{ nothing }} {{ nothing is none }} {{ nothing|default('x', true) }}", "None True x"),
    ],
)
def test_undefined_values_may_be_tested_or_defaulted(source: str, result: str) -> None:
    assert Templates(_MAX).render_text(source, {**_VALUES, "nothing": None}) == result


_FILTERED = st.tuples(
    st.sampled_from(
        [
            *("a", "o.k", "o['k']", "l[0]", "l", "o", "(a)", "l|first", "o|attr('k')", "l[-1]"),
            *(
                "ol|map(attribute='k')",
                "ol|map(attribute='k')|list",
                "l|map('string')",
                "o.get('k')",
            ),
            *("(a is none)", "(a is eq a)", "l|join(a|string)", "ol|join('-', attribute='k')"),
            *("ol|sum(attribute='k')", "l|map('tojson')|map('length')", "a|default(o.k)"),
        ]
    ),
    st.sampled_from(
        [
            *(
                "e",
                "escape",
                "length",
                "count",
                "tojson",
                "urlencode",
                "indent(2)",
                "first",
                "list",
            ),
            *("truncate(length=3)", "join(',')", "string", "upper|tojson", "sum", "tojson|length"),
        ]
    ),
)
_LEAF = st.one_of(st.text(max_size=5), st.integers(-9, 9), st.none(), st.booleans())


@given(st.lists(_FILTERED, min_size=1, max_size=4), _LEAF, _LEAF)
def test_rewriting_does_not_change_defined_values(
    used: list[tuple[str, str]], leaf: str | int | None, other: str | int | None
) -> None:
    source = " ".join(f"{{{{ {variable}|{name} }}}}" for variable, name in used)
    variables = readable(
        {"a": leaf, "o": {"k": other}, "l": [leaf, other], "ol": [{"k": leaf}, {"k": other}]}
    )
    plain = Environment(undefined_behavior="strict")
    try:
        expected = plain.render_str(source, "x.html", **variables)
    except TemplateError:  # e.g. the length of a number
        with pytest.raises(RenderError):
            Templates(_MAX).render_html(source, variables)
    else:
        assert Templates(_MAX).render_html(source, variables) == expected
