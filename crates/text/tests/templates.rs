//! Chat templates: renderings of real ones against Jinja in Python, and hostile ones.

mod common;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use trine_text::{Message, Template};

/// Expressions that give something else than in Python. But for the first, no template asks for these; the list may only shrink.
const OTHERWISE: &[&str] = &[
    // An error in Python. llama.cpp's filters give lists, and its template of DeepSeek R1 writes the functions of tools so.
    "{{ m|selectattr('role', 'equalto', 'user')|tojson }}",
    // There is no table of the names of characters; an error says so.
    r"{{ '\N{BULLET}\N{LATIN SMALL LETTER E WITH ACUTE}' }}",
    // The engine's dictionaries tell booleans from numbers.
    "{{ {true: 'a', 1: 'b'} }}",
];

/// Templates that fail in Python where there are tools, and not here: one reads descriptions that functions left out, the other, llama.cpp's
/// own, writes a generator as JSON.
const MENDED: &[&str] = &["CohereForAI-c4ai-command-r-plus-tool_use.jinja", "llama-cpp-deepseek-r1.jinja"];

/// Templates for chats with tools, which fail in Python without them, the second with documents; here they write what they write with an
/// empty list.
const FOR_TOOLS: &[&str] = &[
    "CohereForAI-c4ai-command-r-plus-tool_use.jinja",
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja",
];

/// Written by `golden/templates.py`.
const GOLDEN: &str = include_str!("../../../golden/templates.json");

/// Written by `golden/expressions.py`.
const EXPRESSIONS: &str = include_str!("../../../golden/expressions.json");

#[test]
fn templates_render_as_in_python() {
    let Some(folder) = common::shared("templates/jinja") else { return };
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let now = golden["now"].as_str().unwrap().parse().unwrap();
    let (mut differ, mut all) = (Vec::new(), 0);
    for (file, hashes) in golden["hashes"].as_object().unwrap() {
        let source = std::fs::read_to_string(folder.join(file)).unwrap();
        let template = Template::new(&source, "<s>", "</s>").unwrap().at(now);
        for case in golden["cases"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let extra = case["extra"].as_object().cloned().unwrap_or_default();
            let prompt = case["prompt"].as_bool().unwrap();
            let text = template.render(&case["messages"], case.get("tools"), prompt, &extra);
            let hash = text.as_ref().map_or("error".to_owned(), |text| sha256(text));
            all += 1;
            if hashes[name] == "error" && case["tools"].is_array() && MENDED.contains(&file.as_str()) {
                assert!(text.is_ok(), "{file}, {name}: {text:?}");
            } else if hashes[name] == "error" && case.get("tools").is_none() && FOR_TOOLS.contains(&file.as_str()) {
                let empty = template.render(&case["messages"], Some(&json!([])), prompt, &extra);
                assert!(text.is_ok() || name != "user", "{file}: {text:?}");
                assert_eq!(text.ok(), empty.ok(), "{file}, {name}");
            } else if hash != hashes[name].as_str().unwrap() {
                let found = text.map_or_else(|error| error.to_string(), |_| "another text".to_owned());
                eprintln!("{file}, {name}: {found}");
                differ.push((file.as_str(), name));
            }
        }
    }
    assert!(differ.is_empty(), "{} of {all} renderings are not as in Python: {differ:?}", differ.len());
}

#[test]
fn expressions_give_what_they_give_in_python() {
    let [small, drawn]: [Value; 2] = [GOLDEN, EXPRESSIONS].map(|golden| serde_json::from_str(golden).unwrap());
    let now = small["now"].as_str().unwrap().parse().unwrap();
    let (mut differ, mut all) = (Vec::new(), 0);
    for (variables, expressions) in
        [(&small["variables"], &small["snippets"]), (&drawn["variables"], &drawn["expressions"])]
    {
        let variables = variables.as_object().unwrap();
        for (source, expected) in expressions.as_object().unwrap() {
            let template = Template::new(source, "", "").map(|template| template.at(now));
            let text = template.and_then(|template| template.render(&json!([]), None, false, variables));
            all += 1;
            if text.as_ref().ok().map(String::as_str) != expected.as_str() {
                let found = text.map_or_else(|error| error.to_string(), |text| json!(text).to_string());
                eprintln!("{source}: expected {expected}, found {found}");
                differ.push(source.as_str());
            }
        }
    }
    assert!(all > 12_000, "{all}");
    assert_eq!(differ, OTHERWISE, "of {all}");
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn render(source: &str) -> Result<String, String> {
    let messages = [Message::new("user", "Hello")];
    let template = Template::new(source, "<s>", "</s>").map_err(|error| error.to_string())?;
    template.render(&messages[..], None, true, &Map::new()).map_err(|error| error.to_string())
}

#[test]
fn what_templates_use_of_python_is_there() {
    let cases = [
        ("{{ bos_token }}{{ messages[0].role }}{{ messages[0]['content'].upper().strip('H') }}", "<s>userELLO"),
        ("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}x{% endfor %}", ""),
        ("{{ [1, 2.5, 1e16, 1e-5, true, none, 'é\"\\n'] | tojson }}", r#"[1, 2.5, 1e+16, 1e-05, true, null, "é\"\n"]"#),
        ("{{ {'b': 1, 'a': {}} | tojson(indent=1) }}", "{\n \"b\": 1,\n \"a\": {}\n}"),
        ("{{ {'b': [], 'a': 1} | tojson(separators=(',', ':'), sort_keys=true) }}", r#"{"a":1,"b":[]}"#),
        ("{{ 'é🦙' | tojson(ensure_ascii=true) }}", r#""\u00e9\ud83e\udd99""#),
        ("{% set ns = namespace(x=1) %}{% for i in range(3) %}{% set ns.x = ns.x * 2 %}{% endfor %}{{ ns.x }}", "8"),
        ("{% generation %}a{%- endgeneration -%} b", "ab"),
        ("{{ true }} {{ none }} {{ {'a': [1, 'b']} }}", "True None {'a': [1, 'b']}"),
        ("{{ tools is iterable }} {{ undefined_thing is defined }}", "False False"),
        ("  {% if true %}\n  a\n  {% endif %}\n", "  a\n"),
    ];
    for (source, expected) in cases {
        assert_eq!(render(source).as_deref(), Ok(expected), "{source}");
    }
    let time = "2026-03-05T14:07:09".parse().unwrap();
    let dated = Template::new("{{ strftime_now('%d %b %Y, %H:%M') }}", "", "").unwrap().at(time);
    assert_eq!(dated.render(&json!([]), None, false, &Map::new()).unwrap(), "05 Mar 2026, 14:07");
}

#[test]
fn hostile_templates_end_in_an_error() {
    // As long as a template may be.
    let fill = |part: &str| part.repeat(65_000 / part.len());
    let long = ["[", "(", "-", "not ", "1 + ", "'a' ~ ", "1 if 1 else ", "1 == ", "{1:", "1 and "];
    let long = long.map(|part| format!("{{{{ {}1 }}}}", fill(part)));
    let chained = ["|upper", ".a", "[0]", "()", " + 1", " ** 1", " is defined"];
    let chained = chained.map(|part| format!("{{{{ messages{} }}}}", fill(part)));
    let blocks =
        ["{% if 1 %}", "{% for x in messages %}", "{% set x %}", "{% macro f() %}", "{% elif 1 %}", "{{", "{#"];
    let blocks = blocks.map(fill);
    let elif = format!("{{% if 0 %}}{}{{% endif %}}", fill("{% elif 0 %}"));
    for source in long.iter().chain(&chained).chain(&blocks).chain([&elif]) {
        assert!(!render(source).is_err_and(|error| error.contains("expected at most")), "{source:.60}");
    }
    // A count of bytes read and built.
    const MORE: &str = "reads or builds more";
    const NEST: &str =
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x";
    let cases = [
        ("{{ raise_exception('no ' ~ messages[0].role ~ ' please') }}", "no user please"),
        ("{{ strftime_now('%Q') }}", "%Q"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "fuel"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", "recursion"),
        ("{% for i in range(99999) %}{{ 'a' * 99999 }}{% endfor %}", MORE),
        ("{{ 'a' * 10000000000 }}", MORE),
        (&format!("{NEST}|tojson }}}}"), "levels"),
        (&format!("{NEST} }}}}"), ""),
        ("{% include 'other' %}", "other"),
        ("{% set s = 'abc' %}{% for i in range(99) %}{% set s = s ~ s %}{% endfor %}", ""),
        ("{% set ns = namespace(s='abc') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}", MORE),
        ("{% set ns = namespace(s='abc') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", MORE),
        ("{% set ns = namespace(s='abc') %}{% for i in range(99) %}{% set ns.s = ns.s * 2 %}{% endfor %}", MORE),
        (
            "{% set ns = namespace(s='abc') %}{% for i in range(99) %}{% set ns.s = ns.s|replace('', ns.s) %}{% endfor %}",
            MORE,
        ),
        (
            "{% set ns = namespace(s='abc') %}{% for i in range(99) %}{% set ns.s = ns.s.replace('', ns.s) %}{% endfor %}",
            MORE,
        ),
        (
            "{% set ns = namespace(s='abc') %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s]|join %}{% endfor %}",
            MORE,
        ),
        ("{% set ns = namespace(s='abc') %}{% for i in range(99) %}{% set ns.s = ns.s.join(ns.s) %}{% endfor %}", MORE),
        (
            "{% set ns = namespace(s='abc') %}{% for i in range(99) %}{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% endfor %}",
            MORE,
        ),
        (
            "{% set ns = namespace(s='abc') %}{% for i in range(99) %}{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}",
            MORE,
        ),
        (
            "{% set ns = namespace(s='a\n') %}{% for i in range(99) %}{% set ns.s = ns.s|indent(ns.s) ~ 'a\na' %}{% endfor %}",
            MORE,
        ),
        (
            "{% set ns = namespace(s='abc') %}{% for i in range(99) %}{% set x %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = x %}{% endfor %}",
            MORE,
        ),
        (
            "{% macro f(s, n) %}{% if n %}{{ f(s, n - 1) }}{{ f(s, n - 1) }}{% endif %}{{ s }}{% endmacro %}{{ f('a' * 999999, 20) }}",
            MORE,
        ),
        ("{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", MORE),
        ("{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s * 2 %}{% endfor %}", MORE),
        (
            "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
            MORE,
        ),
        (
            "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s|tojson }}",
            MORE,
        ),
        (
            "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s == ns.s }}",
            MORE,
        ),
        (
            "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ 1 < 2 < ns.s }}",
            MORE,
        ),
        (
            "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = {'a': ns.s, 'b': ns.s} %}{% endfor %}{{ ns.s|string|length }}",
            MORE,
        ),
        ("{% set ns = namespace() %}{% set ns.s = ns %}{{ ns }}", MORE),
        ("{% set s = 'a' * 99999999 %}{% for i in range(99999) %}{{ 'b' in s }}{% endfor %}", MORE),
        ("{% set s = range(99999)|list %}{% for i in range(99999) %}{{ -1 in s }}{% endfor %}", MORE),
        ("{% set s = 'a' * 99999999 %}{% for i in range(99999) %}{{ s is lower }}{% endfor %}", MORE),
        ("{% set s = 'a' * 99999999 %}{% for i in range(99999) %}{{ loop.changed(s) }}{% endfor %}", MORE),
        ("{% set s = 'a' * 99999999 %}{% for i in range(99999) %}{{ {s: 1}[s] }}{% endfor %}", MORE),
        ("{% set s = 'a' * 99999999 %}{{ s|list|length }}", MORE),
        ("{% set s = 'a' * 99999999 %}{{ s.split('a')|length }}", MORE),
        ("{% set s = 'a' * 99999999 %}{{ ','.join(s) }}", MORE),
        ("{% for i in range(99999) %}{{ range(99999)[i] }}{% endfor %}", MORE),
        ("{{ '%999999999999d' % 1 }}", MORE),
        ("{{ '%*d' % (999999999999, 1) }}", ""),
        ("{{ '{:>999999999999}'.format('a') }}", MORE),
        ("{{ 'a'.center(999999999999) }}", MORE),
        ("{{ [1]|batch(999999999, 0)|list }}", "at most"),
        ("{{ [1]|slice(999999999)|list }}", "at most"),
        ("{{ (['a'] * 9999)|map('indent', 'b' * 999999, true)|list }}", MORE),
        ("{{ (['a'] * 9999)|map('replace', '', 'b' * 999999)|list }}", MORE),
        ("{{ 'a'|center(999999999999) }}", MORE),
        ("{{ '\t'.expandtabs(999999999999) }}", MORE),
        ("{{ ('a ' * 99999)|wordwrap(1, true, 'b' * 99999) }}", MORE),
        (
            "{% set ns = namespace(s='a') %}{% for i in range(99) %}{% set ns.s = (ns.s ~ ns.s)|truncate(9999999999) %}{% endfor %}",
            MORE,
        ),
        (&format!("{NEST}|pprint }}}}"), MORE),
        ("{{ 'a'|nofilter }}", "`nofilter`"),
        ("{{ 1 is notest }}", "`notest`"),
        ("{{ messages[0].frobnicate() }}", "frobnicate"),
        ("{{ nothing.x }}", "`nothing` is undefined"),
        ("{{ messages.nothing.more }}", "`messages.nothing` is undefined"),
        ("{{ 1 / 0 }}", "1 / 0"),
        ("{% if", ""),
        ("{% generation", ""),
        (&" ".repeat(100_000), "expected at most"),
    ];
    for (source, part) in cases {
        match render(source) {
            Err(error) => assert!(error.contains(part), "{source:.80}: {error}"),
            Ok(text) => assert!(part.is_empty(), "{source:.80}: {text:.80}"),
        }
    }
}

proptest! {
    #[test]
    fn any_template_ends(
        source in r#"(\{\{|\}\}|\{%|%\}|-| |\n|\||\(|\)|\[|\]|for|in|if|set|end|macro|messages|tojson|items|generation|[a-z.'"0-9:,~+*]){0,40}"#
    ) {
        let _ = render(&source);
    }
}
