"""Renders the shared chat templates with Jinja in Python, as Hugging Face transformers does, and writes the hashes.

The templates belong to their models and are not in this tree, so only sha256 sums of the renderings are kept.

    python golden/templates.py SHARED/data/templates/jinja golden/templates.json [FOLDER]

needs PyPI jinja2. The conversations are in the output too: the test renders the same ones. The renderings themselves
are left in FOLDER, to look at.
"""

import datetime
import hashlib
import json
import pathlib
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
]


class Generation(jinja2.ext.Extension):
    """`{% generation %}` is a plain block, as it is for transformers when nothing is tracked."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.ScopedEvalContextModifier(lineno=line, body=body, options=[])


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
            tools=case.get("tools"),
            documents=None,
            add_generation_prompt=case["prompt"],
            bos_token="<s>",
            eos_token="</s>",
            **case.get("extra", {}),
        )
    except Exception:
        return None


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
    golden = {"now": NOW.isoformat(), "cases": CASES, "hashes": hashes}
    output.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


main()
