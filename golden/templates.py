"""Renders the shared chat templates with Jinja in Python, as Hugging Face transformers does, and writes the hashes.

The templates belong to their models and are not in this tree, so only sha256 sums of the renderings are kept.

    python golden/templates.py SHARED/data/templates/jinja golden/templates.json [FOLDER]

needs PyPI jinja2. The conversations are in the output too: the test renders the same ones. The renderings themselves
are left in FOLDER, to look at.
"""

import copy
import datetime
import hashlib
import json
import pathlib
import re
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2026, 3, 5, 14, 7, 9)

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city — today's & tomorrow's",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "The city, e.g. \"Zürich\""},
                    "days": {"type": "integer", "minimum": 1, "default": 2},
                    "unit": {"type": "string", "enum": ["C", "F"]},
                },
                "required": ["city"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "now",
            "description": "The time",
            "parameters": {"type": "object", "properties": {}},
        },
    },
]

CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "call00001",
            "type": "function",
            "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 1, "exact": True, "max": 1.5}},
        }
    ],
}
RESULT = {"role": "tool", "tool_call_id": "call00001", "name": "get_weather", "content": "{\"sky\": \"clear\"}"}

SYSTEM = {"role": "system", "content": "You are terse.\nYou <like> \"quotes\" & 'more'."}
HELLO = {"role": "user", "content": "  Hello, wörld! 你好 🦙\n"}
ANSWER = {"role": "assistant", "content": "<think>\nhm, well\n</think>\n\nHi {{ there }}."}
NEXT = {"role": "user", "content": "And `now`?\n\n- one\n- two"}

REASONED = {
    "role": "assistant",
    "content": "It is *déjà vu*.",
    "reasoning_content": "First this,\nthen that.",
    "thinking": "First this,\nthen that.",
}
IMAGE = {
    "role": "user",
    "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "image": "cat.png"},
        {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
        {"type": "text", "text": " — and this? "},
    ],
}
# As OpenAI's API gives them: no content, arguments as text, several at once.
CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Łódź\"}"}},
        {"id": "call00002", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    ],
}
MAPPED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Łódź", "days": [1, 2]}}},
        {"id": "call00002", "type": "function", "function": {"name": "now", "arguments": {}}},
    ],
}
RESULTS = [RESULT, {"role": "tool", "tool_call_id": "call00002", "name": "now", "content": "12:00"}]
DOCUMENTS = [
    {"title": "Ünïts", "text": "One mile is 1.609 km.", "doc_id": 1, "content": "One mile is 1.609 km."},
    {"title": "B", "text": "\"Quoted\"\nlines", "doc_id": 2, "content": "\"Quoted\"\nlines"},
]

CASES = [
    {"name": "user", "messages": [HELLO], "prompt": True},
    {"name": "user, no prompt", "messages": [HELLO], "prompt": False},
    {"name": "system", "messages": [SYSTEM, HELLO], "prompt": True},
    {"name": "turns", "messages": [SYSTEM, HELLO, ANSWER, NEXT], "prompt": True},
    {"name": "turns without system", "messages": [HELLO, ANSWER, NEXT], "prompt": True},
    {"name": "functions", "messages": [HELLO], "prompt": True, "extra": {"functions": "[]", "datetime": "now"}},
    {"name": "answered", "messages": [HELLO, ANSWER], "prompt": False},
    {"name": "thinking off", "messages": [HELLO], "prompt": True, "extra": {"enable_thinking": False}},
    {"name": "parts", "messages": [{"role": "user", "content": [{"type": "text", "text": "In parts"}]}], "prompt": True},
    {"name": "tools", "messages": [HELLO], "prompt": True, "tools": TOOLS},
    {"name": "called", "messages": [SYSTEM, HELLO, CALL, RESULT], "prompt": True, "tools": TOOLS},
    {"name": "called without system", "messages": [HELLO, CALL, RESULT], "prompt": True, "tools": TOOLS},
    {"name": "nothing", "messages": [], "prompt": True},
    {"name": "reasoned", "messages": [SYSTEM, HELLO, REASONED, NEXT], "prompt": True},
    {"name": "reasoned last", "messages": [HELLO, REASONED], "prompt": False},
    {"name": "thinking on", "messages": [HELLO, REASONED, NEXT], "prompt": True, "extra": {"enable_thinking": True}},
    {"name": "image", "messages": [SYSTEM, IMAGE], "prompt": True},
    {"name": "calls", "messages": [SYSTEM, HELLO, CALLS, *RESULTS, ANSWER, NEXT], "prompt": True, "tools": TOOLS},
    {"name": "mapped calls", "messages": [HELLO, MAPPED, *RESULTS, REASONED], "prompt": False, "tools": TOOLS},
    {"name": "calls without tools", "messages": [HELLO, CALL, RESULT, NEXT], "prompt": True},
    {"name": "no tools", "messages": [HELLO], "prompt": True, "tools": []},
    {"name": "null", "messages": [HELLO, {"role": "assistant", "content": None}, NEXT], "prompt": True},
    {"name": "empty", "messages": [{"role": "system", "content": ""}, {"role": "user", "content": ""}], "prompt": True},
    {"name": "no content", "messages": [{"role": "user"}], "prompt": True},
    {"name": "twice the user", "messages": [HELLO, NEXT], "prompt": True},
    {"name": "only system", "messages": [SYSTEM], "prompt": True},
    {"name": "unknown role", "messages": [{"role": "developer", "content": "Be kind."}, HELLO], "prompt": True},
    {"name": "late system", "messages": [HELLO, ANSWER, SYSTEM, NEXT], "prompt": True},
    {"name": "documents", "messages": [SYSTEM, HELLO], "prompt": True, "extra": {"documents": DOCUMENTS}},
    {"name": "low effort", "messages": [SYSTEM, HELLO], "prompt": True, "extra": {"reasoning_effort": "low"}},
    {"name": "non-ASCII", "messages": [{"role": "user", "content": "\u200b\u0000\u2028ß\ufeff\U0001f468\u200d\U0001f469 'q' \"d\" \\ <|im_end|>"}], "prompt": True},
]

# What expressions are made of: values of each kind, and what is done to them.
VARIABLES = {
    "s": "Ab cd-é\n'x' <b> 12",
    "t": "",
    "n": 7,
    "f": -2.5,
    "big": 1e16,
    "small": 1e-7,
    "yes": True,
    "nil": None,
    "l": [3, "a", None, [1], {"k": 1.0}],
    "e": [],
    "d": {"b": 1, "a": ["x", {"y": None}], "items_": "é", "3": True},
    "m": [{"role": "user", "content": "u1"}, {"role": "tool", "content": None}, {"role": "user", "content": "u2"}],
    "q": "a,b,,c",
    "w": "  two   words  here ",
    "nums": [3, 1, 2],
}
NAMES = [*VARIABLES, "missing"]
UNARY = """
{} | {}|tojson | {}|length | {}|string | {}|list | {}|first | {}|last | {}|join(', ') | {}|upper | {}|trim | {}|int | {}|float
{}|default('?') | {}|default('?', true) | {}|items|list | {}|reverse|list | {}|safe | {}|e | {}|indent(2) | {}|capitalize | {}|title
{}|sort|list | {}|unique|list | {}|map('string')|list | {}|select|list | {}|abs | {}|round | {}|replace('a', 'b') | {}|sum | {}|max
{} is string | {} is mapping | {} is iterable | {} is sequence | {} is none | {} is defined | {} is number | {} is boolean
{} is integer | {} is float | {} is true | {} is false | {} is callable | not {} | -{} | {}[0] | {}[-1] | {}['b'] | {}.b | {}.b.c | {}[::-1] | {}[1:]
{}[:-1] | {}[::2] | {}[5:1:-2] | {}[-100:100] | {}[1:][0] | {}.items() | {}.items()|list | {}.keys()|list | {}.get('b') | {}.strip() | {}.split()
{}|tojson(indent=2) | 'x' if {} else 'y' | {} or 'z' | {} and 'z' | {} ~ '!' | [{}] | ({}, 1) | {{'v': {}}}
{}|map(attribute='role')|list | {}|selectattr('role', 'equalto', 'user')|list | {}|length > 1 | {}() | {}|count
""".replace("\n", " | ").split(" | ")
BINARY = "{} + {} # {} * {} # {} ~ {} # {} == {} # {} != {} # {} < {} # {} >= {} # {} in {} # {} not in {} # {} - {} # {} / {} # {} % {} # {} // {}".split(" # ")
SNIPPETS = """
s.upper() # s.lower() # s.title() # s.capitalize() # s.swapcase() # s.strip("A2") # s.lstrip() # w.rstrip() # w.strip() # w.split() # w.split(' ')
w.split(None, 1) # w.rsplit(None, 1) # q.split(',') # q.split(',', 1) # q.rsplit(',', 1) # q.split(sep=',', maxsplit=2) # q.split('') # s.splitlines()
s.splitlines(true) # 'a\\r\\nb\\rc\\n\\nd'.splitlines() # s.startswith('Ab') # s.startswith(('x', 'Ab')) # s.endswith('12') # s.startswith('b', 1) # s.find('cd') # s.find('zz')
s.rfind('b') # s.index('cd') # s.index('zz') # s.count('b') # s.replace('b', 'X') # s.replace('b', 'X', 1) # s.replace('', '-') # q.partition(',') # q.rpartition(',')
q.partition(';') # s.removeprefix('Ab') # s.removesuffix('12') # '7'.zfill(3) # '-7'.zfill(4) # 'ab'.center(7, '*') # 'ab'.ljust(4) # 'ab'.rjust(4) # 'abc'.center(6) # 'x'.isdigit() # '12'.isdigit()
'a1'.isalnum() # 'ab'.isalpha() # ' '.isspace() # ''.isspace() # 'Ab'.isupper() # 'AB'.isupper() # ','.join(['a', 'b']) # ','.join([1]) # ','.join('abc') # ','.join(e)
'{} and {}'.format(1, 'b') # '{0}{1}{0}'.format('a', 'b') # '{x}'.format(x=1) # '{:>5}'.format('a') # '{:.2f}'.format(1.005) # '%s is %d' % ('a', 3) # '%s' % 'a' # '%s' % [1] # '%5.1f' % 2.25
'%s %s'|format('a', 1) # '%s' % none # '%d%%' % 5 # '%s' % 'a' ~ 'b' # 'a' 'b' # 'é'.encode('utf-8') # s.nothing() # s.nothing # none.x # none['x'] # missing.x # missing['x'] # missing() # raise_exception('no')
d.items()|list # d.keys()|list # d.values()|list # d.items()|tojson # d.keys()|tojson # d.values()|list|tojson # d.get('zz') # d.get('zz', 5) # d.b # d['b'] # d.zz # d.zz is defined # 'b' in d # 1 in d # d|length
d.items()|length # d|dictsort # d|list # d|tojson(sort_keys=true) # d|tojson(separators=(',', ':')) # d|tojson(ensure_ascii=true) # d|tojson(indent=4) # d|tojson(indent='\\t') # d.update({'x': 1}) # d.pop('b') # d.copy()
dict(a=1, b=2) # dict(d, z=1) # dict(a=1)|items|list # {'a': 1}.items()|first # {1: 'x', none: 'y', false: 'z'}|tojson # {1.5: 2}|tojson # l.index('a') # l.count(3) # l.append(1) # l[1:3] # l[-2:] # l[3][0] # l[4].k
nums|sort # nums|sort(reverse=true) # nums|sum # nums|max # nums|min # nums|join('-') # nums|map('string')|join # nums|select('odd')|list # nums|reject('odd')|list # nums|batch(2)|list # nums|batch(2, 0)|list # nums|slice(2)|list
m|map(attribute='role')|list # m|map(attribute='content')|join(',') # m|selectattr('role', '==', 'user')|list|length # m|selectattr('content')|list|length # m|rejectattr('role', 'equalto', 'user')|map(attribute='role')|list # m|selectattr('content', 'none')|list|tojson
m|selectattr('role', 'in', ['tool'])|list|length # m|selectattr('role', 'equalto', 'user')|length # m|selectattr('role', 'equalto', 'user')|tojson # m|selectattr('role', 'equalto', 'zz') and 1 # m|map('attr', 'role')|list # m|groupby('role')|length # m|map(attribute='role')|unique|list
m|selectattr('role', 'equalto', 'user')|first|tojson # (m|selectattr('role', 'equalto', 'user')|list|last).content # m|join(',', attribute='role') # m|sum(attribute='x') # m[0].role # m[0]['role'] # m[-1].content # m[5] # m[5].role # m[0].zz # m[0]['zz']|default('-') # m[1].content is none # m|last|tojson # m[1:]|length
'<'|safe + '<' # '<' + '<'|safe # '<'|e + '<' # '<' ~ ('<'|safe) # '<'|e # ('<'|e)|e # '<'|safe|e # 'a'|safe * 2 # ('<'|e)|upper # ('a'|safe)|tojson # ('<'|safe)[0] # '<'|forceescape # ('<'|safe)|string + '>' # ['<'|safe, '<']|join
'a' if false # ('a' if false) is defined # ('a' if false) ~ 'b' # 1 if missing else 2 # missing|default('x') # none|default('x') # none|default('x', true) # ''|default('x', true) # missing.x is defined # missing is defined and missing.x # missing == missing # missing == none # none == none
1 == true # 1 == 1.0 # '1' == 1 # 0 == false # [1] == [1] # (1,) == [1] # {'a': 1} == {'a': 1.0} # 1 < 2 < 3 # 1 < 3 < 2 # 1 < 'a' # none < 1 # 'a' < 'b' # [1, 2] < [1, 3] # true + true # true * 3 # 'ab' * 2 # 2 * 'ab' # 'ab' * -1 # [1] * 2 # [1] + [2] # [1] + (2,) # (1,) + (2,) # 'a' + 1 # 1 + none # missing + 'a' # 'a' + missing
7 / 2 # 6 / 2 # 7 // 2 # -7 // 2 # 7 % 3 # -7 % 3 # 7.5 % 2 # 2 ** 10 # 2 ** -1 # 2 ** 0.5 # 1 / 0 # 1 % 0 # 1.0 # 1e3 # 1e16 # 1e15 # 123456789012345678 # 0.1 + 0.2 # 3.0 * 2 # 10 // 2.5 # 1_000 # 3|round # 2.5|round # 3.14159|round(2) # 2.7|int # '12'|int # 'x'|int # 'x'|int(5) # '1.5'|float # -3|abs # 7 is odd # 7 is divisibleby(7)
range(3)|list # range(1, 4)|list # range(5, 0, -2)|list # range(3)|tojson # range(3)[1] # range(5)[1:3]|list # range(0)|list # range(3)|length # 2 in range(3) # range(3)|sum # range(3)|reverse|list # 'abc'|reverse # 'abc'|list # 'abc'[1] # 'abc'[-1] # 'abc'[5] # 'abc'[1:] # 'éàü'[::-1] # ''[::-1] # [][::-1] # ()[::-1] # [1][::-1] # 'abc'[::0] # 'abc'['x'] # 'abc'[none:2] # 'abc'[missing:2] # nil[1:] # missing[1:] # d[1:] # n[1:] # l[::2] # l[4:0:-2] # l[10:] # l[:-10] # (1, 2, 3)[1:] # l[true]
'a' is string # 1 is number # true is number # 1.5 is float # true is integer # d is mapping # l is sequence # s is sequence # d is sequence # d.items() is iterable # none is iterable # missing is iterable # missing is undefined # 'a' is in('abc') # 'a' is in(['a']) # 'a' is eq('a') # 3 is gt(2) # 'A' is upper # 'a' is lower # none is sameas(none) # 1 is sameas(true) # range is callable # raise_exception is callable # s is callable # 'x' is filter # 'upper' is filter
'a' in 'abc' # 1 in 'abc' # missing in 'abc' # none in [none] # 'a' in none # 'a' in missing # [1] in [[1]] # [1] in d # 'a' in ['ab'] # 1 in [true] # 'x' not in 'abc'
none # true # false # [none, true, 'a', 1.0, "it's", '"', 'both\\' "'] # {'a': none} # (1,) # () # [] # {} # [missing] # 'tab\\t'|list # ['\\u00e9', '\\n', '\\\\'] # ('a', 'b') # 1.0 # 100000000000000000.0 # -0.0 # 12345.678
'é🦙\\u2028"\\\\/'|tojson # '<>&\\''|tojson # '\\x00\\x1f\\x7f'|tojson # [1.0, 1e16, 1e-5, 1e22, 0.1]|tojson # [true, none]|tojson # []|tojson(indent=2) # {}|tojson(indent=2) # {'a': []}|tojson(indent=2) # [1, [2]]|tojson(indent=2) # missing|tojson # [missing]|tojson # 1|tojson # 'a'|tojson|tojson # (1, 2)|tojson # [1, 2]|tojson(separators=[';', '=']) # {'b': 1, 'a': 2}|tojson # {'b': 1, 'a': 2}|tojson(indent=none) # d|tojson(indent=0) # d|tojson(nothing=1)
'a\\nb\\n\\nc'|indent # 'a\\nb'|indent(2, true) # 'a\\n\\nb'|indent(2, blank=true) # 'a\\nb'|indent('> ') # 'a\\nb\\n'|indent(width=1, first=true) # ' a '|trim # 'xax'|trim('x') # none|trim # 1|string + 'a' # none|string # [1]|string # none|upper # 5|upper # 'hello world'|title # "it's"|title # "it's".title() # 'HELLO'|capitalize # 'a-b c'|title # 'abc'|replace('b', '') # 'aaa'|replace('a', 'b', 2) # 123|replace('2', 'x') # 'abc'|first # ''|first # []|first # []|last # []|first|default('x') # [[1, 2], [3]]|sum(start=[]) # ['b', 'A']|sort # ['b', 'A', 'a']|unique|list # [1, 'a']|sort # 'a b'|wordcount # 'a'|nofilter # 'a' is notest # nofunction() # ['a']|map('nofilter')|list # loop
strftime_now('%Y-%m-%d') # strftime_now('%d %b %Y') # strftime_now('%A, %B %d, %Y') # strftime_now('%H:%M:%S %p %I') # strftime_now('%j %U %w %y %%') # strftime_now('%-d/%-m') # strftime_now('%e|%D|%F|%T|%R') # strftime_now('plain') # strftime_now('%c') # strftime_now('%x %X') # strftime_now('%f') # strftime_now('%Z') # strftime_now('%z') # strftime_now('') # strftime_now('%s')|length > 5 # strftime_now('%G-W%V-%u') # strftime_now('%C %h %n %t|') # strftime_now('%k %l')
['\\u2028\\u2029\\u200b\\xa0\\xad\\u3000\\ufeff\\ue000\U000e0001', 'é\\u0301🦙 x'] # {'\\x7f\\x85\\u200d': '\\u061c'} # ["a'\\u2028\\"b"] # '%r' % '\\u2028' # '%r|%s|%5r' % ('é', 'a', 1) # '%r' % [1, 'a'] # '%(k)r %(k)s' % {'k': 'x'} # '%(k)s' % {'j': 1} # '%r' # '%(a)d' % d # '%(b)d' % d
'{!r}'.format('a\\u200b') # '{0!r:>6}|{0!s:<4}|{0:^5}|'.format('é') # '{}{!r}{}'.format(1, 'b', none) # '{}'.format(['a', none]) # '{a!r} {a}'.format(a='q') # '{0.role} {0[role]}'.format({'role': 'r'}) # '{:>{w}}'.format('a', w=4) # '{} {0}'.format(1) # '{:5}'.format(none) # '{:*^7.2s}'.format('abc') # '{:05}'.format('a') # '{:05}'.format(7) # '{:,}'.format(1234567) # '{{{}}}'.format(1) # '{'.format(1) # '}'.format(1) # '{x}'.format(1) # '{!x}'.format(1)
'%5s|%-5s|%.2s' % ('é', 'ab', 'xyz') # '%*d' % (4, 7) # '%-*d|' % (4, 7) # '%.*f' % (2, 1.239) # '%c' % 'x' # '%x %o %e' % (255, 8, 12345.678) # '%d' % 'a' # '%s %s' % ('a',) # '%s' % ('a', 'b') # '%(a' % d # '%' % 1 # '%+d % d %05d' % (1, 2, 3) # 'abc' % d # 'abc' % 1 # '%ld' % 5
'0x1f'|int(0, 16) # '0x1F'|int(base=0) # '-0b101'|int(0, 0) # '0o17'|int(0, 8) # '017'|int(5, 0) # '00'|int(5, 0) # '1_000'|int # '1__0'|int # '_1'|int # '0x_1'|int(0, 16) # '0x1f'|int # ' 12 '|int # '+7'|int # '--7'|int # 'z'|int(0, 36) # '99999999999999999999'|int # '1'|int(3, 1) # '0b1'|int(0, 16)
s|wordcount # w|wordcount # n|wordcount # 'a-b c_d 1.5 é²½'|wordcount # 'देव नागरी'|wordcount # ''|wordcount # nil|wordcount
w|truncate(8) # w|truncate(8, true) # w|truncate(9, false, '…') # w|truncate(length=10, leeway=0) # w|truncate(2) # 'a'|truncate # ('word ' * 60)|truncate # w|truncate(8, leeway=-1) # 'abcdefghij'|truncate(5, leeway=0) # 'héllo wörld'|truncate(9, true, '', 0) # n|truncate
'<p class="a">Tom &amp; <b>J</b>\\n erry</p>'|striptags # 'a < b > c'|striptags # 'a < b'|striptags # 'x<!-- > <b> -->y'|striptags # '&lt;i&gt; &#233;&#x41; &nbsp;&eacute;&hellip;'|striptags # 5|striptags # nil|striptags # '<'|striptags # 'a&b;c'|striptags
'a b/c?d=é&~-_.'|urlencode # {'a b': 'c/d', 'é': 1}|urlencode # [('a', 1), ('b', 'x y')]|urlencode # 5|urlencode # nil|urlencode # [1]|urlencode # e|urlencode # missing|urlencode # 'ab'|urlencode
1|filesizeformat # 0|filesizeformat # 999|filesizeformat # 1000|filesizeformat # 1500000|filesizeformat # 1024|filesizeformat(true) # 1e30|filesizeformat # '1e9'|filesizeformat # -5|filesizeformat # -0.5|filesizeformat # 12.9|filesizeformat # 123456789|filesizeformat(binary=true) # 'x'|filesizeformat # 1e27|filesizeformat # 5e12|filesizeformat
{'class': 'a "b"', 'id': 1, 'no': none}|xmlattr # {'a': missing}|xmlattr # {}|xmlattr # {'a': 1}|xmlattr(false) # {'a b': 1}|xmlattr # {'a=': 1}|xmlattr # {1: 1}|xmlattr # l|xmlattr # {'<': '<'|safe}|xmlattr
'ab'|center # 'abc'|center(8) # 'é'|center(width=4) # 5|center(3) # nil|center(7) # 'abcd'|center(2)
'The quick brown-fox jumped over the lazy dog'|wordwrap(10) # 'a well-known--dash, self-made e-mail 3-4 x-y-z'|wordwrap(6) # 'abcdefghijkl mn'|wordwrap(5) # 'abcdefghijkl mn'|wordwrap(5, false) # 'ab-cdefgh-ijkl'|wordwrap(5) # 'ab-cdefgh-ijkl mn-op'|wordwrap(4, true, '|', false) # 'a\\n\\n  b  c  '|wordwrap(3) # w|wordwrap(1) # w|wordwrap(0) # ''|wordwrap # ('word ' * 30)|wordwrap # 'aaa bbbbbbbb'|wordwrap(4) # 'ab  ccccccc'|wordwrap(3) # 'été-là où-ça'|wordwrap(5) # '--ab ---- c--d'|wordwrap(3) # s|wordwrap(4, wrapstring='/') # n|wordwrap
m|groupby('role')|list # m|groupby('role') # (m|groupby('role')|first).grouper # (m|groupby('role')|first).list|length # m|groupby('content')|list # nums|groupby('x')|list # [{'a': 'B'}, {'a': 'b'}, {'a': 'A'}]|groupby('a') # [{'a': 'B'}, {'a': 'b'}]|groupby('a', case_sensitive=true) # [(1, 'x'), (2, 'y'), (1, 'z')]|groupby(0) # [{}, {'a': 1}]|groupby('a', default=0) # m|groupby('role')|map('first')|list # m|groupby('role')|tojson # (m|groupby('role')|first) is sequence
d|pprint # l|pprint # s|pprint # n|pprint # nil|pprint # {'b': 1, 'a': 2}|pprint # m|pprint # {'zeta': ['word'] * 20, 'alpha': ('x' * 30, 'y' * 30, 'z' * 30), 'one': ('w' * 90,)}|pprint # ('some words ' * 20)|pprint # ['some words\\nin lines ' * 9, 1]|pprint # {'k' * 40: {'j' * 30: [1, 2, 3, 'v' * 20]}}|pprint # ('a' * 100)|pprint # range(50)|list|pprint # ('line\\n' * 20)|pprint # {1: 'b', none: 'a', 'x': 0}|pprint # ('  ' ~ 'b ' * 50)|pprint # []|pprint # ()|pprint # ('é ' * 60, )|pprint
'ßẞΣςİıǅŉﬁᾈꭰᎠA'.casefold() # s.casefold() # 'a\\tb\\n\\tc\\r\\td'.expandtabs() # 'a\\tb'.expandtabs(4) # '\\t|'.expandtabs(tabsize=3) # 'a\\tb'.expandtabs(0) # 'abc\\t|'.expandtabs(3) # 'ab'.isidentifier() # '1a'.isidentifier() # '_é1'.isidentifier() # ''.isidentifier() # 'a b'.isidentifier() # 'a·'.isidentifier() # '℘'.isidentifier()
namespace(a=1).a # namespace(a=1).b is defined # namespace(a=1)['a'] # namespace({'a': 2}).a # namespace() is mapping # namespace(d).b # namespace(d, b=5).b # namespace(a=1).a + 1 # joiner(',') is defined # cycler(1, 2).next() # lipsum is defined
"""
PROGRAMS = """
{% for x in nums %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.depth }};{% endfor %}
{% for x in nums %}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.nextitem is defined }}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }};{% endfor %}
{% for x in none %}{% endfor %}
{% for x in missing %}a{% else %}none{% endfor %}
{% for x in n %}{% endfor %}
{% for x in yes %}{% endfor %}
{% for k in d %}{{ k }},{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }}{{ '' if loop.last else ', ' }}{% endfor %}
{% for k, v in d|dictsort %}{{ k }}={{ v }},{% endfor %}
{% for k, v in d %}{{ k }}{% endfor %}
{% for a, b in [[1, 2], [3, 4]] %}{{ a + b }}{% endfor %}
{% for c in s %}{{ c }}.{% endfor %}
{% for x in nums if x > 1 %}{{ loop.index }}{{ x }}{{ loop.length }}{% else %}no{% endfor %}
{% for x in nums if x > 9 %}{{ x }}{% else %}no{% endfor %}
{% for x in nums %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% endfor %}
{% for x in nums recursive %}{{ x }}{% if x == 3 %}{{ loop([8, 9]) }}{% endif %}{% endfor %}
{% for x in l %}{% for y in nums %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}
{% for x in nums %}{% set y = x %}{% endfor %}{{ y is defined }}
{% set y = 0 %}{% for x in nums %}{% set y = y + x %}{% endfor %}{{ y }}
{% set ns = namespace(y=0, l=[]) %}{% for x in nums %}{% set ns.y = ns.y + x %}{% set ns.l = ns.l + [x] %}{% endfor %}{{ ns.y }}{{ ns.l }}
{% set ns = namespace() %}{% set ns.a = 1 %}{% set ns.b = ns.a + 1 %}{{ ns.a }}{{ ns.b }}{{ ns.c is defined }}
{% set d2 = {'a': 1} %}{% set d2.a = 2 %}{{ d2 }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}
{% set a, b = [1] %}{{ a }}
{% set a = b = 1 %}
{% set x %}  text {{ n }}{% endset %}[{{ x }}]{{ x|length }}
{% set x | upper %}text{% endset %}{{ x }}
{% if n %}{% set inside = 1 %}{% endif %}{{ inside }}
{% macro f(a, b=2, c=a) %}[{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}]{% endmacro %}{{ f(1) }}{{ f(1, 5) }}{{ f(b=1, a=3) }}{{ f() }}
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(z=2) }}
{% macro f() %}{{ caller() }}!{% endmacro %}{% call f() %}body{% endcall %}
{% macro f() %}{{ caller('x') }}!{% endmacro %}{% call(a) f() %}body {{ a }}{% endcall %}
{% macro f(x) %}{% if x > 0 %}{{ x }}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(3) }}
{% macro f() %}{{ n }}{{ y }}{% endmacro %}{% set y = 5 %}{{ f() }}
{% macro f() %}a{% endmacro %}{{ f() + 'b' }}{{ f()|upper }}{{ f() is string }}{{ f().strip() }}
{% macro f(d) %}{% for k, v in d.items() %}{{ k }}{% if v is mapping %}({{ f(v) }}){% endif %}{% endfor %}{% endmacro %}{{ f({'a': {'b': {'c': 1}}}) }}
{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}
{% filter upper %}a{{ q }}{% endfilter %}
{% raw %}{{ x }}{% endraw %}
{% if missing %}a{% elif none %}b{% elif e %}c{% elif t %}d{% else %}e{% endif %}
{% if missing.x %}a{% endif %}
{% if m[0].zz.yy %}a{% endif %}
{% if 'a' in d and d.a is iterable and d.a is not string %}yes{% endif %}
{% generation %}a{{ n }}{% endgeneration %}b
{% set y = 1 %}{% generation %}{% set y = 2 %}{{ y }}{% endgeneration %}{{ y }}
{%- if n -%}  a  {%- endif -%}  b
{% do l.append(1) %}
{# comment #}a{#- trim -#} b
  {%+ if n %}x{% endif +%}
a{{ '\\n' }}b
{% set g = m|selectattr('role', 'equalto', 'user') %}{{ g|list|length }}{{ g|list|length }}
{% set g = nums|map('string') %}{% if g %}true{% endif %}{% for x in g %}{{ x }}{% endfor %}{% for x in g %}again{% endfor %}
{% set v = d.keys() %}{% for x in v %}{{ x }}{% endfor %}{% for x in v %}{{ x }}{% endfor %}{{ v|length }}
{% autoescape true %}{{ '<' }}{{ '<'|safe }}<b>{{ ['<'] }}{{ '<' ~ '>' }}{% endautoescape %}{{ '<' }}
{% block b %}in{{ n }}{% endblock %}
{% include 'x' %}
{% extends 'x' %}
{% import 'x' as y %}
{% endif %}
{% for %}
{{ 1 +
{% unknown %}
{% if n %}
{{ m|map(attribute='role')|join(' ')|replace('user', 'U')|upper }}
{{ ['a', 'b']|map('upper')|list }}{{ ['a', 'b']|map('replace', 'a', 'c')|join }}{{ [' a ']|map('trim')|join }}
{{ (m|first).role }}{{ (nums|max) + 1 }}{{ 'a' ~ 1 ~ none ~ 2.0 }}
{{ {'a': 1, **{'b': 2}} }}
{{ [*nums] }}
{{ f"{n}" }}
{{ n if n > 5 else 'small' if n else 'zero' }}
{{ 'A' ~ loop }}
{% for role, list in m|groupby('role') %}{{ role }}:{{ list|length }}{{ list[0].content }};{% endfor %}
{% autoescape true %}<a{{ {'x': '<', 'y': 'z'|safe}|xmlattr }}>{{ '%r %s' % ('<', 1) }}{% endautoescape %}
{% filter wordwrap(8) %}some words in a block{% endfilter %}
{{ self }}
{{ d['items_'] }}{{ d.items_ }}{{ d['3'] }}
{{ {'items': [1]}.items }}
{{ {'items': [1]}['items'] }}
{{ {'get': 5}.get('get') }}
{% set x = 'a' %}{% set x = x ~ x %}{{ x * 3 }}
"""


class Generation(jinja2.ext.Extension):
    """`{% generation %}` as in transformers: a block of its own."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def render(env, source, case):
    try:
        return env.from_string(source).render(
            messages=case["messages"],
            **{
                "tools": case.get("tools"),
                "documents": None,
                "add_generation_prompt": case["prompt"],
                "bos_token": "<s>",
                "eos_token": "</s>",
                **case.get("extra", {}),
            },
        )
    except Exception:
        return None


def snippets(env):
    """Small templates over VARIABLES, and what they give: a text, or null where Python raises."""
    expressions = [part.strip() for line in SNIPPETS.strip().splitlines() for part in line.split(" # ")]
    expressions += [form.replace("{}", name).replace("{{", "{").replace("}}", "}") for form in UNARY if form for name in NAMES]
    expressions += [form.format(a, b) for form in BINARY for a in NAMES for b in NAMES]
    sources = ["{{ " + e + " }}" for e in expressions] + PROGRAMS.strip("\n").split("\n")
    found = {}
    for source in dict.fromkeys(sources):
        try:
            text = env.from_string(source).render(**copy.deepcopy(VARIABLES))
        except Exception:
            text = None
        if text is None or not re.search(r" at 0x[0-9a-f]+>|<(macro|class|function|module|bound|built-in|Loop|Cycler|Joiner|Template)", text):
            found[source] = text
    return found


def main():
    templates, output = map(pathlib.Path, sys.argv[1:3])
    env = environment()
    hashes = {}
    for path in sorted(templates.glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        texts = {case["name"]: render(env, source, case) for case in CASES}
        hashes[path.name] = {
            name: "error" if text is None else hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()
        }
        for name, text in texts.items():
            if text is not None and len(sys.argv) > 3:
                (pathlib.Path(sys.argv[3]) / f"{path.name}.{name}").write_text(text, encoding="utf-8")
    golden = {"now": NOW.isoformat(), "cases": CASES, "hashes": hashes, "variables": VARIABLES, "snippets": snippets(env)}
    output.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
