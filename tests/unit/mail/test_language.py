"""What a mail's template may use; and that nothing that passes can take the process down."""

import contextlib
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from minijinja import Environment, TemplateError

from streamer.mail.language import RefusedError, check, strict
from streamer.mail.templates import RenderError, Templates, TooLargeError
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
def test_what_would_overflow_the_stack_is_not_compiled(source: str) -> None:
    with pytest.raises(RefusedError):
        check(source)


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
def test_what_passes_fits_a_small_stack(source: str) -> None:
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
        ("\n\n{%- import 'x' as y %}", r"\{% import %\} \(line 3\)"),
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
        ("{% set ns.a = ns %}", "a number or a text"),
        ("{% set (ns.a) = ns %}", "a number or a text"),
        ("{% set ns.a = x ~ y if x else ns %}", "a number or a text"),
        ("{% set ns.a = (x ~ y) or ns %}", "a number or a text"),
        ("{% set ns.a = x[a - b:] %}", "a number or a text"),
        ("{% set ns.a = x|default(ns) %}", "a number or a text"),
        ("{{ items|map('default', items) }}", "map takes one"),
        ("{{ items|map(attribute='a', default=items) }}", "map takes one"),
        ("{{ '{:99}'.format(1) }}", "use the filter"),
        ("{{ x|tojson(indent=9) }}", "tojson"),
    ],
)
def test_what_a_mail_may_not_use(source: str, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        check(source)


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
def test_what_a_mail_may_use(source: str, result: str) -> None:
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
def test_any_text_is_rendered_or_refused_in_good_order(source: str) -> None:
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
        "{{ a|default('x')|length }} {{ a|d|length }} {{ f(a)|length }} {{ a is b|length }}",
        "{{ none|length }} {{ true|length }} {{ 1|length }}",
        "{{ unclosed",
    ],
)
def test_what_cannot_hide_an_undefined_variable_stays_as_it_is(source: str) -> None:
    assert strict(source) == source


def test_only_the_variable_is_asked_about() -> None:
    source = "{% set x = a.b['c']|count %}\n{{ 'z' if y|length else a[i] | tojson }}{{ f(x) | e }}"
    assert strict(source) == (
        "{% set x = (a.b['c'] if a.b['c'] is defined else a.b['c'][0])|count %}\n"
        "{{ 'z' if (y if y is defined else y[0])|length else "
        "(a[i] if a[i] is defined else a[i][0]) | tojson }}{{ f(x) |string| e }}"
    )


_FILTERED = st.tuples(
    st.sampled_from(["a", "o.k", "o['k']", "l[0]", "l", "o"]),
    st.sampled_from(["e", "escape", "length", "count", "tojson", "urlencode", "indent(2)"]),
)
_LEAF = st.one_of(st.text(max_size=5), st.integers(-9, 9), st.none(), st.booleans())


@given(st.lists(_FILTERED, min_size=1, max_size=4), _LEAF, _LEAF)
def test_what_is_defined_is_rendered_as_ever(
    used: list[tuple[str, str]], leaf: str | int | None, other: str | int | None
) -> None:
    source = " ".join(f"{{{{ {variable}|{name} }}}}" for variable, name in used)
    variables = readable({"a": leaf, "o": {"k": other}, "l": [leaf, other]})
    plain = Environment(undefined_behavior="strict")
    try:
        expected = plain.render_str(source, "x.html", **variables)
    except TemplateError:  # no number has a length
        with pytest.raises(RenderError):
            Templates(_MAX).render_html(source, variables)
    else:
        assert Templates(_MAX).render_html(source, variables) == expected
