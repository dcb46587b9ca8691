"""Lets the embedded model answer under JSON Schemas, and validates what it says.

    cargo build && python golden/schemas.py target/debug/trine golden/schemas.json

needs PyPI jsonschema. A test generates the texts again.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import jsonschema

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 1, "maximum": 120},
        "pets": {"type": "array", "items": {"enum": ["cat", "dog", "bird"]}, "maxItems": 3},
    },
    "required": ["name", "age", "pets"],
    "additionalProperties": False,
}

SCHEMAS = [
    PERSON,
    {"type": "array", "items": {"type": "number", "multipleOf": 0.5, "minimum": -3, "maximum": 20}, "minItems": 2, "maxItems": 5},
    {"type": "string", "pattern": "^[A-Z][a-z]{2,8}( [A-Z][a-z]{2,8})?$"},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "ipv4"},
    {"oneOf": [{"type": "integer", "maximum": 10, "minimum": 0}, {"type": "integer", "minimum": 5, "maximum": 20}, {"type": "null"}]},
    {"enum": ["yes", "no", 1, None, [True, {"a": "b"}]]},
    {
        "type": "object",
        "properties": {"kind": {"enum": ["circle", "square"]}, "r": {"type": "integer", "minimum": 1, "maximum": 9}, "side": {"type": "boolean"}},
        "required": ["kind"],
        "if": {"properties": {"kind": {"const": "circle"}}},
        "then": {"required": ["r"]},
        "else": {"required": ["side"]},
        "additionalProperties": False,
    },
    {
        "$ref": "#/$defs/tree",
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {
                    "word": {"type": "string", "maxLength": 8},
                    "sub": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 1},
                },
                "required": ["word"],
                "unevaluatedProperties": False,
            }
        },
    },
    {"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 1, "maxProperties": 3, "propertyNames": {"maxLength": 6}},
    {"type": "object", "properties": {"a": {"type": "integer", "maximum": 9, "minimum": 0}, "b": {"type": "boolean"}}, "dependentRequired": {"a": ["b"]}, "additionalProperties": False},
    {"type": "array", "prefixItems": [{"type": "string", "maxLength": 5}, {"type": "boolean"}], "items": False, "minItems": 1},
    {"type": "string", "not": {"enum": ["a", "the"]}, "maxLength": 6},
]


def main():
    trine, out = sys.argv[1:]
    rows = []
    for schema in SCHEMAS:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(schema, file)
            file.flush()
            for seed in range(3):
                command = [trine, "run", "embedded:stories", "Once upon a time", "--raw", "--json", "--quiet"]
                command += ["--json-schema", file.name, "--seed", str(seed), "--max-tokens", "400"]
                answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
                if answer["finish_reason"] != "stop":
                    print("cut:", json.dumps(schema), answer["text"][:200])
                    continue
                value = json.loads(answer["text"])
                checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
                jsonschema.Draft202012Validator(schema, format_checker=checker).validate(value)
                rows.append({"schema": schema, "seed": seed, "text": answer["text"]})
    pathlib.Path(out).write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    print(f"{len(rows)} texts are valid")


main()
