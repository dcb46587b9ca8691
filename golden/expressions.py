"""Generates Jinja expressions from the signatures of its filters, tests, functions and methods, and writes what Jinja
in Python gives for each.

    python golden/expressions.py golden/expressions.json

needs PyPI jinja2. Every callable gets each of its values with arguments by position, by name, mixed, too many, and of
an unknown name. Values and arguments are drawn with a fixed seed.
"""

import copy
import json
import pathlib
import random
import re
import sys

from templates import environment

DRAW = random.Random(7)

VARIABLES = {
    "s": "Ab cd-é\n'x' <b> 12",
    "t": "",
    "n": 7,
    "f": -2.5,
    "yes": True,
    "nil": None,
    "l": [3, 1, 2],
    "words": ["b", "A", "a", "C"],
    "mixed": [2, True, 0, 1.5],
    "e": [],
    "d": {"b": 1, "a": 2, "C": 0, "items": [9]},
    "m": [
        {"role": "user", "n": 2, "x": {"y": "B"}, "tags": ["q"]},
        {"role": "Tool", "n": 1, "x": {"y": "a"}, "tags": []},
        {"role": "user", "n": 1, "x": {"y": "b"}, "tags": ["r", "s"]},
    ],
}

TEXTS = ["s", "t", "' a b '", "'Hello, World'", "'xxabcxx'", "'ß Ǆ ﬁ'", "'<b>1 & 2</b>'|safe"]
NUMBERS = ["n", "f", "yes", "0", "42.55", "-7", "2.5", "'12'", "1e20"]
LISTS = ["l", "words", "mixed", "e", "m", "(3, 1)", "'cab'", "d", "range(4)", "nil", "missing"]
ANY = [*TEXTS[:3], *NUMBERS[:4], *LISTS, "none", "[none, none]", "{}", "namespace(a=1)"]
ITERATED = [*ANY, "l|map('string')"]
FLAG = ["true", "false", "0", "none"]
# Python 3.12 takes more for these.
STRICT_FLAG = ["true", "false", "0", "1"]
COUNT = ["0", "1", "2", "-1", "none", "true", "'2'"]
ATTRIBUTE = ["'n'", "'role'", "'x.y'", "'tags.0'", "0", "'zz'", "none"]

# The values of each filter, and its parameters, each with arguments to draw from.
FILTERS = {
    "abs": (NUMBERS + ["nil", "missing", "l"], {}),
    "attr": (["d", "m", "s", "missing", "namespace(a=1)"], {"name": ["'a'", "'upper'", "'items'", "'zz'", "0"]}),
    "batch": (LISTS, {"linecount": ["1", "2", "3", "5"], "fill_with": ["0", "none", "'x'", "missing"]}),
    "capitalize": (ANY, {}),
    "center": (TEXTS + ["n", "nil"], {"width": ["0", "3", "10", "-1", "'5'", "none"]}),
    "count": (ITERATED, {}),
    "d": (ITERATED, {"default_value": ["'x'", "1", "none", "missing"], "boolean": FLAG}),
    "default": (ITERATED, {"default_value": ["'x'", "1", "none", "missing"], "boolean": FLAG}),
    "dictsort": (
        ["d", "{'b': 'x', 'B': 'W', 'a': 'y'}", "{1: 2, 0: 3}", "{'a': 1, 2: 3}", "{}", "l", "missing"],
        {"case_sensitive": FLAG, "by": ["'key'", "'value'", "'x'"], "reverse": STRICT_FLAG},
    ),
    "e": (ANY, {}),
    "escape": (ANY, {}),
    "filesizeformat": (NUMBERS + ["1500", "2e7", "1023", "nil", "'x'"], {"binary": FLAG}),
    "first": (ITERATED, {}),
    "float": (NUMBERS + ["'1e3'", "' 2.5 '", "'x'", "nil", "missing", "l"], {"default": ["1.5", "none", "'x'"]}),
    "forceescape": (ANY, {}),
    "format": (["'%s'", "'%s %s'", "'%(a)s'", "'%d%%'", "'%r'", "n"], {"*args": ["1", "'a'", "none", "l", "d"], "a": ["1", "'b'"]}),
    "groupby": (
        ["m", "[{'a': 'B'}, {'a': 'b'}, {}]", "[(1, 'x'), (0, 'y'), (1, 'z')]", "e", "l", "words"],
        {"attribute": ["'role'", "'n'", "'x.y'", "'a'", "0"], "default": ["'u'", "0", "none"], "case_sensitive": FLAG},
    ),
    "indent": (
        ["'a\\nb\\n\\nc\\n'", "s", "t", "'\\n'", "'a\\r\\nb'", "n"],
        {"width": ["2", "0", "'>> '", "-1", "none"], "first": FLAG, "blank": FLAG},
    ),
    "int": (NUMBERS + ["'0x1f'", "'101'", "'x'", "nil", "missing", "l", "'1.9'"], {"default": ["5", "none", "'x'"], "base": ["2", "8", "16", "0", "36", "1"]}),
    "items": (["d", "{}", "missing", "l", "nil", "s"], {}),
    "join": (LISTS, {"d": ["', '", "1", "none", "'-'"], "attribute": ATTRIBUTE}),
    "last": (ITERATED, {}),
    "length": (ITERATED, {}),
    "list": (ITERATED, {}),
    "lower": (ANY, {}),
    "map": (LISTS, {"*args": ["'string'", "'upper'", "'length'", "'nofilter'", "'int'"], "attribute": ATTRIBUTE, "default": ["'u'", "0"]}),
    "max": (LISTS, {"case_sensitive": FLAG, "attribute": ATTRIBUTE}),
    "min": (LISTS, {"case_sensitive": FLAG, "attribute": ATTRIBUTE}),
    "pprint": (ANY, {}),
    "random": (["[5]", "'a'", "e", "n"], {}),
    "reject": (LISTS, {"*args": ["'odd'", "'none'", "'string'", "'notest'", "'gt'", "'equalto'", "1"]}),
    "rejectattr": (["m", "e", "missing", "l"], {"*args": ["'n'", "'role'", "'x.y'", "'odd'", "'equalto'", "'user'", "1", "'in'"]}),
    "replace": (
        TEXTS + ["n", "nil", "'aaaa'"],
        {"old": ["'a'", "' '", "''", "'b'", "1", "none"], "new": ["'X'", "''", "7", "none"], "count": ["1", "0", "-1", "none", "2"]},
    ),
    "reverse": (ITERATED, {}),
    "round": (
        NUMBERS + ["1.25", "1.35", "-1.5", "1234.5678", "nil"],
        {"precision": ["0", "1", "2", "-1", "-2", "none"], "method": ["'common'", "'ceil'", "'floor'", "'x'"]},
    ),
    "safe": (ANY, {}),
    "select": (LISTS, {"*args": ["'odd'", "'none'", "'string'", "'notest'", "'gt'", "'equalto'", "1"]}),
    "selectattr": (["m", "e", "missing", "l"], {"*args": ["'n'", "'role'", "'x.y'", "'odd'", "'equalto'", "'user'", "1", "'in'"]}),
    "slice": (LISTS, {"slices": ["1", "2", "3", "5", "0", "-1"], "fill_with": ["0", "none", "'x'"]}),
    "sort": (
        LISTS + ["[none]", "[none, none]", "[none, 1]", "[true, 0, 2]", "['b', 'B', 'a']", "[[2], [1, 9]]", "[(1, 'b'), (1, 'a')]", "[1, 'a']", "[{}, {}]"],
        {"reverse": STRICT_FLAG, "case_sensitive": FLAG, "attribute": [*ATTRIBUTE, "'n,role'", "'role,n'"]},
    ),
    "string": (ANY, {}),
    "striptags": (ANY + ["'<p>a <!-- b --> c</p>'", "'a<b'"], {}),
    "sum": (LISTS + ["[[1], [2]]", "['a']"], {"attribute": ["'n'", "'zz'", "none", "0"], "start": ["10", "0.5", "[]", "'a'", "true"]}),
    "title": (ANY + ["'it\\'s a-b (c) [d] {e} <f>'"], {}),
    "tojson": (
        ["l", "d", "s", "nil", "yes", "f", "m[0]", "'é<>&'", "missing", "(1, 2)", "{1: none}", "e", "{}"],
        {
            "ensure_ascii": FLAG,
            "indent": ["0", "2", "none", "'\\t'", "-1", "true"],
            "separators": ["none", "(',', ':')", "['; ', ' = ']"],
            "sort_keys": FLAG,
        },
    ),
    "trim": (TEXTS + ["n", "nil"], {"chars": ["'x'", "' a'", "none", "''", "1"]}),
    "truncate": (
        ["s", "t", "'a fairly long sentence of words'", "'abcdefghijklmnop'", "n"],
        {"length": ["5", "9", "12", "3", "0", "none"], "killwords": FLAG, "end": ["'...'", "'…'", "''", "none"], "leeway": ["0", "3", "none", "-1"]},
    ),
    "unique": (LISTS + ["['b', 'B', 'a', 'b']", "[1, true, 1.0, 0]", "[[1]]", "[none, none]"], {"case_sensitive": FLAG, "attribute": ATTRIBUTE}),
    "upper": (ANY, {}),
    "urlencode": (ANY + ["{'a b': 'c&d'}", "[('a', 'é')]"], {}),
    "urlize": (
        ["'see https://example.org/a?b=1 or www.x.org.'", "'(http://a.com) a@b.org mailto:x@y.io'", "'tel:123 no.thing ftp://x'", "'<https://a.net/(b)>'", "t", "n"],
        {"trim_url_limit": ["5", "none", "100"], "nofollow": FLAG, "target": ["'_blank'", "none"], "rel": ["'me'", "'nofollow z a'", "none"], "extra_schemes": ["['tel:']", "['ftp://', 'tel:']", "none", "['x']"]},
    ),
    "wordcount": (ANY, {}),
    "wordwrap": (
        ["s", "'a fairly long sentence of words'", "'abcdefghijklmnop qrs-tuv'", "t"],
        {"width": ["5", "8", "1", "0"], "break_long_words": FLAG, "wrapstring": ["'|'", "none", "'\\n'"], "break_on_hyphens": FLAG},
    ),
    "xmlattr": (["d", "{'a': '<', 'b': none}", "{}", "l", "missing"], {"autospace": FLAG}),
}

# The right sides of each test.
TESTS = {
    **dict.fromkeys(
        "boolean callable defined escaped even false float integer iterable lower mapping none number odd sequence string true "
        "undefined upper filter test".split(),
        [],
    ),
    "divisibleby": ["2", "0", "1.5", "'a'"],
    **dict.fromkeys("eq == equalto ne != gt > greaterthan ge >= lt < lessthan le <=".split(), ["1", "'a'", "none", "2.5", "l"]),
    "in": ["l", "'abc'", "d", "none", "(none,)"],
    "sameas": ["none", "true", "1", "'a'"],
}
TESTED = [*ITERATED, "'a'", "'A'", "'upper'", "'none'", "'odd'", "1", "2", "2.0", "1.5", "true", "false", "range", "'<'|e", "'a b'", "'A1'", "l.index", "s.upper"]

# Methods of texts, dictionaries, lists, tuples and numbers; parameters by position only begin with `/`.
FILL = ["'*'", "' '", "'ab'"]
PART = ["'b'", "' '", "''", "'ab'", "1", "'é'"]
PLACE = ["0", "2", "-3", "none", "100"]
STRIP = {"/chars": ["'x'", "' a'", "none", "''", "1"]}
SPLIT = {"sep": ["' '", "','", "none", "''", "'l'"], "maxsplit": ["0", "1", "2", "-1"]}
SEARCH = {"/sub": PART, "/start": PLACE, "/end": PLACE}
PREFIX = {"/prefix": ["'Ab'", "'12'", "('H', 'A')", "''", "1", "['A']", "(1,)"], "/start": PLACE, "/end": PLACE}
WIDTH = {"/width": ["0", "3", "9", "10", "-1", "'5'"], "/fill": FILL}
STRINGS = ["s", "t", "' a b '", "'Hello, World'", "'xxabcxx'", "'ß Ǆ ﬁ'", "'a\\tb\\n12'", "'-7'", "'ǅ٣Ⅷ½'"]
METHODS = {
    "string": (
        STRINGS,
        {
            **dict.fromkeys(
                "capitalize casefold isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace "
                "istitle isupper lower swapcase title upper".split(),
                {},
            ),
            **dict.fromkeys("strip lstrip rstrip".split(), STRIP),
            **dict.fromkeys("center ljust rjust".split(), WIDTH),
            "zfill": {"/width": ["0", "5", "-1", "'5'"]},
            **dict.fromkeys("split rsplit".split(), SPLIT),
            "splitlines": {"keepends": STRICT_FLAG},
            **dict.fromkeys("count find index rfind rindex".split(), SEARCH),
            **dict.fromkeys("startswith endswith".split(), PREFIX),
            **dict.fromkeys("partition rpartition".split(), {"/sep": PART}),
            **dict.fromkeys("removeprefix removesuffix".split(), {"/prefix": ["'Ab'", "'12'", "'x'", "''", "1"]}),
            "replace": {"/old": PART, "/new": ["'X'", "''", "1"], "/count": ["0", "1", "-1", "none"]},
            "join": {"/iterable": ["words", "'abc'", "e", "l", "d", "none", "missing"]},
            "expandtabs": {"tabsize": ["4", "0", "1", "-1"]},
            "encode": {"encoding": ["'utf-8'", "'ascii'", "'utf8'", "'nope'"], "errors": ["'strict'", "'ignore'", "'replace'"]},
            "format": {"*args": ["1", "'a'"], "a": ["1"]},
            "nomethod": {},
            "__class__": {},
        },
    ),
    "dict": (
        ["d", "{}", "{'a': none}", "{'keys': 1, 'get': 2, 'values': 3, 'copy': 4}"],
        {
            **dict.fromkeys("keys values items copy clear popitem".split(), {}),
            "get": {"/key": ["'a'", "'zz'", "1", "'items'", "[1]"], "/default": ["5", "none"]},
            "pop": {"/key": ["'a'"]},
            "setdefault": {"/key": ["'a'"], "/default": ["1"]},
            "update": {"/other": ["{}"]},
        },
    ),
    "list": (
        ["l", "words", "e", "mixed"],
        {
            "index": {"/value": ["1", "'A'", "true", "9"], "/start": PLACE, "/stop": PLACE},
            "count": {"/value": ["1", "'A'", "true", "9"]},
            **dict.fromkeys("copy clear reverse sort pop".split(), {}),
            **dict.fromkeys("append extend remove".split(), {"/value": ["1"]}),
            "insert": {"/at": ["0"], "/value": ["1"]},
        },
    ),
    "tuple": (["(1, 2, 1)", "()"], {"index": {"/value": ["1", "9"], "/start": PLACE}, "count": {"/value": ["1", "9"]}}),
    "range": (["range(5)", "range(1, 9, 3)"], {"index": {"/value": ["1", "9"]}, "count": {"/value": ["1", "9"]}}),
    "integer": (["n", "0", "yes", "(-7)"], dict.fromkeys("bit_length bit_count conjugate as_integer_ratio".split(), {})),
    "float": (["f", "2.0", "1e30"], dict.fromkeys("is_integer conjugate as_integer_ratio hex".split(), {})),
}
ATTRIBUTES = "n.real n.imag n.numerator n.denominator f.real f.imag range(3).start range(1,9,2).stop range(1,9,2).step nil.x missing.x".split()

FUNCTIONS = {
    "range": {"/start": ["0", "3", "-2", "none", "1.0"], "/stop": ["5", "0", "-5"], "/step": ["1", "2", "-1", "0"]},
    "dict": {"*args": ["d", "[('a', 1)]", "{}", "1"], "z": ["1"]},
    "namespace": {"*args": ["d", "[('a', 1)]"], "z": ["1"]},
}

VALUES = ["1", "0", "-3", "2.5", "true", "false", "none", "'ab'", "''", "[1]", "(1,)", "{'a': 1}", "missing", "range(2)", "12345678901234567890"]
OPERATORS = "+ - * / // % ** == != < <= > >= in ~ and or".split() + ["not in"]

SYNTAX = r"""
+1 @ +n @ -+-n @ + +f @ +yes @ +s @ +missing @ +nil @ 1 + +2 @ 1 - -2 @ 2 * +3 @ [+1, -1] @ {'a': +1} @ +1|string @ -1|abs @ -n|abs @ -2 ** 2 @ 2 ** 3 ** 2 @ 2 ** -1 @ -yes @ - -n @ +l[0] @ -l[0] @ -f|abs
not n @ not not n @ not n == 7 @ not n is odd @ n is not odd @ n not in l @ not n in l @ not (n) @ -n is odd @ n + 1 is odd @ n is odd + 1 @ n is divisibleby 7 @ n is divisibleby(7) @ n is sameas n @ n is eq 7 and yes @ n is eq(7) or nope @ s is string is true
1 + 2 * 3 @ (1 + 2) * 3 @ 7 // 2 * 2 @ 7 % 4 ** 2 @ 'a' ~ 1 + 2 @ 1 ~ 2 * 3 @ 1 + 2 ~ 3 @ 'a' ~ 'b' == 'ab' @ 1 < 2 == true @ 1 < 2 > 0 @ 1 in [1] == true @ 1 == 1 in [1] @ 3 > 2 > 1 > 0 @ 3 > 2 > 5 > 0 @ 1 < 2 in [2]
1 if yes @ 1 if nil @ 1 if nil else 2 @ 1 if nil else 2 if nil else 3 @ 1 if yes if nil else 5 @ (1, 2) if yes @ 1, 2 @ 1, @ (1,) @ () @ (1, 2, ) @ [1, 2, ] @ {'a': 1, } @ [] @ {} @ , @ (,) @ [,] @ 1 2 @ [1 2] @ (1 @ 1) @ [1) @ 'a @ a' @ { @ }
'a' 'b' @ 'a' "b" 'c' @ 'a' ~ 'b' 'c' @ 'a'.upper() @ 'a' 'b'.upper() @ "it's" @ 'q"q' @ 'a\'b' @ "a\"b" @ 'a\\b' @ '\n' == "\n" @ '\t|\r|\a\b\f\v' @ '\x41\u00e9\U0001f600' @ '\101\60\7' @ '\/' @ '\d\ \.' @ '\N{BULLET}\N{LATIN SMALL LETTER E WITH ACUTE}' @ '\N{nope}' @ '\x4' @ '\u12' @ '\U00110000' @ '\ud83d\ude00' @ 'é\n€' @ '{{' @ '}}' @ '%}' @ '#}' @ "{% x %}"
1_000 @ 0x1F @ 0b101 @ 0o17 @ 0X1f @ 1e3 @ 1.5e-3 @ 1E5 @ 1_0.5_0 @ 1. @ .5 @ 007 @ 00 @ 1__0 @ 1e @ 0x @ 1.5.real @ 5.real @ 99999999999999999999999 @ 1e400 @ -1e400 @ 170141183460469231731687303715884105727
true @ True @ TRUE @ false @ False @ none @ None @ NONE @ nil @ é @ _x @ x.y @ x1
l.0 @ l.1 @ l.5 @ m.0.role @ m[0].x['y'] @ l[0:2] @ l[:] @ l[::] @ l[::-1] @ l[1:][0] @ l[-1] @ l[yes] @ l[1.0] @ l['0'] @ l[0, 1] @ d['a'] @ d['zz'] @ d.zz @ d['items'] @ d.items is callable @ d.items()|list @ d['items'][0] @ d|items|list @ d['keys']()|list @ d.keys()|list @ s['upper']() @ s.upper() @ s.upper is callable @ s['zz'] @ s[0] @ s[-1] @ s[100] @ s[1:3] @ s[::-2] @ d[1:2] @ n[0] @ l[]
str.encode is defined @ s.encode is defined @ s.nope is defined @ d.items is defined @ d.nope is defined @ l.append is defined @ l.index is defined @ n.real is defined @ nil.x is defined @ missing.x is defined @ s.__class__ is defined @ s._x is defined @ d.pop is defined @ d.get is callable @ range is callable @ missing is callable @ n is callable
s|upper|lower @ s|replace('b', 'c')|upper @ (n + 1)|string @ n + 1|string @ l|join('-')|upper @ l|first + 1 @ 'a'|upper ~ 'b' @ l | sum @ l|sum is odd @ [3, 1]|sort|first @ s|nofilter @ s is notest @ s|upper() @ s|upper.x @ 'a'|replace(*['a', 'b']) @ 'a'|replace(**{'old': 'a', 'new': 'c'}) @ 'a'|replace('a', **{'new': 'c'}) @ 'ab'|replace(*('a', 'b'), **{'count': 0}) @ 'a'|replace(new='x', 'a') @ 'a'|replace(*['a'], 'b') @ l|map('upper')|join @ nil|default('x', boolean=yes, boolean=no)
range(3) @ range(3)|list @ range(1, 2) @ range(0, 6, 2)|list @ range(3) == range(3) @ range(0) @ range(2)|string @ [range(2)] @ range(100001) @ dict(a=1) @ dict([('a', 1)], b=2) @ dict(**d) @ dict(1) @ namespace(a=1).a @ namespace(d, z=5).z @ namespace(d).b @ namespace() is mapping @ namespace(a=1) is iterable @ namespace(a=1)['a'] @ namespace([('a', 1)]).a @ lipsum is defined @ lipsum is callable
cycler(1, 2).next() @ cycler(1, 2).current @ cycler() @ cycler('a').reset() @ cycler(1, 2) is defined @ joiner() is callable @ joiner()() @ joiner('|')() @ joiner(sep='|')()
m|map(attribute='role')|unique|list @ m|map('attr', 'items')|list|length @ m|sum('n') @ m|sum(attribute='n', start=10) @ m|map(attribute='zz', default='-')|list @ m|sort(attribute='role,n')|map(attribute='n')|list @ m|selectattr('n')|list|length @ m|selectattr('tags.0', 'defined')|map(attribute='n')|list @ m|max(attribute='n') @ (m|groupby('n'))[0].list|length @ m|groupby('n')|map('last')|map('length')|list @ l|select('gt', 1)|list @ l|select('in', [1, 2])|list @ words|map('replace', 'a', 'x')|list @ words|map('default', 'x', true)|list @ [[1], [2, 3]]|map('sum')|list @ [l, e]|map('first')|list @ words|sort|join @ words|sort(true)|join @ words|sort(case_sensitive=true)|join @ words|max @ words|min(true) @ 'bca'|sort|join @ d|dictsort|first @ d|sort @ d|max @ d|list @ d|first @ d|length @ mixed|sort @ mixed|max @ mixed|sum @ mixed|unique|list @ [0.0, false, 0]|unique|list @ ['a', 'A']|unique(true)|list @ [1, 1.0] == [true, 1] @ {'a': 1} == {'a': true} @ {1: 'a'}[true] @ {1: 'a'}[1.0] @ {true: 'a', 1: 'b'} @ {'a': 1, 'a': 2} @ {[]: 1} @ {(1, 2): 3} @ {none: 1}
"""

# Texts of several lines, and one with a backslash at its end.
LONG = ["'a\\\nb'", "'a\nb'", '"\\\n"', "'a\r\nb'"]

PROGRAMS = r"""
{% macro f(a, b=2, c=a) %}[{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}]{% endmacro %}{{ f(1) }}{{ f(1, 5) }}{{ f(b=1, a=3) }}{{ f() }}{{ f(1, 2, 3, 4, 5) }}{{ f(1, z=9) }}
{% macro f() %}{{ varargs|join('-') }}{% endmacro %}{{ f(1, 2) }}|{{ f(*[3, 4]) }}|{{ f() }}
{% macro f() %}{{ varargs|join('-') }}{% endmacro %}{{ f(a=1) }}
{% macro f(a) %}{{ a }}{{ kwargs|dictsort }}{% endmacro %}{{ f(1, z=2, b=3) }}{{ f(**{'a': 5, 'q': 6}) }}
{% macro f(a) %}{{ a }}{{ kwargs }}{% endmacro %}{{ f(1, 2) }}
{% macro f(a, b='x') %}{{ a }}{{ b }}{% endmacro %}{{ f(1, missing) }}|{{ f(missing) }}|{{ f(1, none) }}
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, a=2) }}
{% macro f(a) %}{{ a is defined }}{% endmacro %}{{ f() }}{{ f.name }}{{ f.arguments }}{{ f.catch_varargs }}{{ f.catch_kwargs }}{{ f.caller }}
{% macro f() %}{{ varargs }}{{ kwargs }}{{ caller is defined }}{% endmacro %}{{ f.catch_varargs }}{{ f.catch_kwargs }}{{ f.caller }}
{% macro f(n) %}{{ varargs|length }}{% if n %}{{ f(n - 1, 1, 2) }}{% endif %}{% endmacro %}{{ f(2) }}
{% macro f() %}{{ caller() }}{{ varargs }}{% endmacro %}{% call f(1, 2) %}body{% endcall %}
{% macro f() %}({{ caller(1, 2) }}){% endmacro %}{% call(a, b=5, c=6) f() %}{{ a }}{{ b }}{{ c }}{% endcall %}
{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}
{% macro f() %}x{% endmacro %}{% call f() %}body{% endcall %}
{% macro f(caller=none) %}{{ caller is none }}{% endmacro %}{{ f() }}{% call f() %}b{% endcall %}
{% macro f() %}{{ caller() }}{% endmacro %}{% macro g() %}{% call f() %}<{{ caller() }}>{% endcall %}{% endmacro %}{% call g() %}in{% endcall %}
{% macro f(a=1, b) %}{% endmacro %}
{% macro f(x) %}{% for i in range(x) %}{{ i }}{{ loop.last }}{% endfor %}{% endmacro %}{{ f(2) }}{{ [1, 2]|map('string')|join }}{{ f(x=1) }}
{% macro f(x) %}{{ x }}{% endmacro %}{% set g = f %}{{ g(1) }}{{ [f][0](2) }}{{ {'h': f}.h(3) }}{{ (f)(4) }}
{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}
{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}
{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}
{% set c = cycler('a', 'b', 'c') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }}{{ c.current }}
{% set c = cycler('odd', 'even') %}{% for i in range(3) %}{{ c.next() }} {% endfor %}{{ c.pos }}{{ c.items }}
{% set j = joiner('|') %}{% for i in range(3) %}{{ j() }}{{ i }}{% endfor %}
{% set j = joiner() %}{{ j() }}a{{ j() }}b{{ j.used }}{{ j.sep }}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{{ d.items()|list|length }}
{% for k in {'items': 1, 'keys': 2, 'get': 3}.keys() %}{{ k }}{% endfor %}{{ {'get': 5}.get('get') }}{{ {'values': 5}.values()|list }}
{% set up = s.upper %}{{ up() }}{% set g = d.get %}{{ g('a') }}{{ g('zz', 3) }}
{% set ns = namespace(d, z=1) %}{% set ns.z = ns.z + ns.b %}{{ ns.z }}{{ ns.a }}
{% set ns = namespace() %}{% for i in l %}{% set ns.last = i %}{% endfor %}{{ ns.last }}
{% set (a, b) = (1, 2) %}{{ a }}{{ b }}{% set a, (b, c) = 1, (2, 3) %}{{ c }}
{% set a, b = 'xy' %}{{ a }}{{ b }}
{% set x = 1, 2 %}{{ x }}
{% set x = 1 if nil %}{{ x is defined }}
{% set x|upper|replace('A', 'b') %}aAa{% endset %}{{ x }}
{% set x %}{% set y = 1 %}{{ y }}{% endset %}{{ x }}{{ y is defined }}
{% filter upper|replace('A', 'b') %}aAa{% endfilter %}
{% filter indent(width=2, first=true) %}a{{ '\n' }}b{% endfilter %}
{% for x in 1, 2, 3 %}{{ x }}{% endfor %}
{% for x in l if x > 1 %}{{ loop.index }}{{ loop.length }}{{ loop.last }}{{ x }};{% else %}-{% endfor %}
{% for x in l if x > 9 %}{{ x }}{% else %}-{% endfor %}
{% for (a, b) in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for x in [1, [2, [3]]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{{ loop.depth }}{% endif %}{% endfor %}
{% for x in l %}{{ loop.cycle('a', 'b') }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.revindex }}{{ loop.changed(x // 2) }} {% endfor %}
{% for x in l %}{% if loop.first %}{% continue %}{% endif %}{{ x }}{% if x == 1 %}{% break %}{% endif %}{% endfor %}
{% for x in l %}{% set outer = loop %}{% for y in l %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}
{% for x in 'abc'|reverse %}{{ x }}{{ loop.length }}{% endfor %}
{% for x in l|map('string') %}{{ x }}{{ loop.length }}{{ loop.last }}{% endfor %}
{% for c in s[:3] %}[{{ c }}]{% endfor %}
{% for x in range(3) %}{{ loop.index0 }}{{ loop.revindex0 }}{{ loop.depth0 }}{% endfor %}{{ loop is defined }}
{% if n == 7 and not nil %}a{% elif n %}b{% else %}c{% endif %}
{% if 1, 2 %}a{% endif %}
{% if nil %}{% elif f %}b{% endif %}
{% print n, s|upper %}
{% block b %}{{ n }}{% endblock b %}
{% block b scoped %}{{ n }}{% endblock %}{{ self.b() }}
{% autoescape true %}{{ '<' }}{{ '<'|safe }}{{ s ~ '>'|safe }}{{ ['<']|join(',') }}{{ '<a>'|replace('a', '<') }}{% endautoescape %}
{% autoescape true %}{{ '<b>'|safe|upper }}{{ '<'|e|e }}{{ '%s'|safe|format('<') }}{{ '<'|safe + '<' }}{{ '<' * 2 }}{{ ('<'|safe) * 2 }}{% endautoescape %}
{% raw %}{{ n }}{% n %}{% endraw %}{{ n }}
{%- raw -%}  {{ a }}  {%- endraw -%}  x
{# a #}{#- b -#}  c  {#+ d +#}
a {{- n -}} b {{ n }} c
a {%- if n -%} b {%- endif -%} c
{{ {'a': {'b': 1}} }}{{ {'a': {'b': {}}}}}
{{ "}}" }}{{ '{{' }}{{ "%}" }}
{{ n }}{{n}}{{-n-}}{{ -n }}{{+n}}
{%if n%}a{%endif%}{%set x=1%}{{x}}
{% if n: %}a{% endif %}
{% do l.index(1) %}
{% set x = l.append(4) %}{{ x }}
{% endif %}
{% if n %}
{% for x in %}{% endfor %}
{% set 1 = 2 %}
{% set none = 2 %}
{% set loop = 1 %}{{ loop }}
{% set d.x = 1 %}
{% unknown %}
{{ n
{{ n }
{% raw %}
{# open
{{ a..b }}
{{ n | }}
{{ is }}
{{ if }}
{{ n if }}
{{ for }}{{ in is defined }}
{{ 1 if true else }}
{{ f"x" }}
{{ a := 1 }}
{{ lambda: 1 }}
{{ n; n }}
{{ n ? 1 : 2 }}
{{ n && s }}
{{ !n }}
{{ n @ }}
{{ $n }}
{{ [x for x in l] }}
{{ *l }}
{{ s.format(1, a=2) }}{{ '{} {a}'.format(1, a=2) }}{{ '%(a)s'|format(a=1) }}
{{ '{:>{w}}|{:<5}|{:^5}|{:+d}|{:x}|{:,}|{:e}|{:.1%}|{!r:>5}'.format('a', 'b', 'c', 5, 255, 12345, 1.5, 0.25, 'x', w=3) }}
{{ '%5.1f|%-5d|%05d|%+d|%x|%o|%e|%g|%s|%r|%c|%%'|format(1.25, 3, 4, 5, 255, 8, 12345.678, 0.0001, none, 'a', 65) }}
"""


def forms(params):
    """Lists of arguments, as they are written: drawn by position, by name, and both; too many, unknown, and twice."""
    fixed = [(name.lstrip("/"), choices, name.startswith("/")) for name, choices in params.items() if name != "*args"]
    several = params.get("*args")
    pick = DRAW.choice
    yield ""
    for count in range(1, len(fixed) + 1):
        for _ in range(3):
            yield ", ".join(pick(choices) for _, choices, _ in fixed[:count])
    for name, choices, only in fixed:
        for choice in DRAW.sample(choices, min(3, len(choices))):
            yield f"{name}={choice}"
    if len(fixed) > 1:
        for _ in range(3):
            yield ", ".join(f"{name}={pick(choices)}" for name, choices, _ in reversed(fixed))
            yield ", ".join([pick(fixed[0][1])] + [f"{name}={pick(choices)}" for name, choices, _ in fixed[1:]])
            yield f"{pick(fixed[0][1])}, {fixed[-1][0]}={pick(fixed[-1][1])}"
    if several:
        for count in (1, 2, 2, 3, 3):
            for _ in range(3):
                yield ", ".join(pick(several) for _ in range(count))
    if fixed:
        yield ", ".join(pick(fixed[0][1]) for _ in range(len(fixed) + 1))
        yield f"{pick(fixed[0][1])}, {fixed[0][0]}={pick(fixed[0][1])}"
    else:
        yield "1"
    yield "unknown=1"


def calls(values, params):
    """A value and arguments: every value with none, and two values with each other form."""
    written = list(dict.fromkeys(forms(params)))
    for value in values:
        yield value, written[0]
    for args in written[1:]:
        for value in DRAW.sample(values, min(2, len(values))):
            yield value, args


def expressions():
    for name, (values, params) in FILTERS.items():
        for value, args in calls(values, params):
            lazy = "|list" if name in ("map", "select", "reject", "selectattr", "rejectattr", "unique", "batch", "slice", "items") else ""
            yield f"({value})|{name}" + (f"({args})" if args else "") + lazy
    for name, rights in TESTS.items():
        for value in TESTED:
            if name in ("lower", "upper") and "map" in value:
                continue
            if not rights:
                yield f"({value}) is {name}"
            elif name.isalpha():
                yield f"({value}) is {name}({DRAW.choice(rights)})"
            else:
                yield f"[{value}]|select('{name}', {DRAW.choice(rights)})|list"
        yield f"1 is {name}(1, 2)"
        yield f"1 is {name}(unknown=1)"
    for values, methods in METHODS.values():
        for name, params in methods.items():
            for value, args in calls(values, params):
                yield f"({value}).{name}({args})" + ("|list" if name in ("keys", "values", "items") else "")
    yield from ATTRIBUTES
    for name, params in FUNCTIONS.items():
        for args in dict.fromkeys(forms(params)):
            yield f"{name}({args})" + ("|list" if name == "range" else ".b" if name == "namespace" else "")
    for op in OPERATORS:
        for left in VALUES:
            for right in DRAW.sample([value for value in VALUES if op != "**" or len(value) < 10], 5):
                yield f"({left}) {op} ({right})"
    for line in SYNTAX.strip().splitlines():
        yield from line.split(" @ ")
    yield from LONG


def main():
    env = environment()
    sources = ["{{ " + expression + " }}" for expression in expressions()] + PROGRAMS.strip("\n").split("\n")
    found = {}
    for source in dict.fromkeys(sources):
        try:
            text = env.from_string(source).render(**copy.deepcopy(VARIABLES))
        except Exception:
            text = None
        # What names an address is not the same twice, and a lone surrogate is no UTF-8.
        if text is None or not re.search(r"(?i) at 0x[0-9a-f]+>|<(macro|class|function|module|bound|built-in|jinja2|Loop|Cycler)|[\ud800-\udfff]", text):
            found[source] = text
    golden = {"variables": VARIABLES, "expressions": found}
    pathlib.Path(sys.argv[1]).write_text(json.dumps(golden, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    errors = sum(text is None for text in found.values())
    print(f"{len(found)} expressions, of which {errors} are errors")


if __name__ == "__main__":
    main()
