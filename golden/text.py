"""Splits texts into words by the pre-tokenizers of published models, with Hugging Face's tokenizers (PyPI).

    python golden/text.py golden/words.json

The test compares the words with those of the registry row of the same name.
"""

import json
import pathlib
import sys

from tokenizers import Regex, pre_tokenizers

GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"


def gpt_4(digits, marks=""):
    letters = r"[\p{L}\p{M}]+" if marks else r"\p{L}+"
    return (
        rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?{letters}|{digits}"
        rf"| ?[^\s\p{{L}}{marks}\p{{N}}]+[\r\n]*|{SPACES}"
    )


def cased(after, digits):
    start = r"[^\r\n\p{L}\p{N}]?"
    return (
        rf"{start}{UPPER}*{LOWER}+{after}|{start}{UPPER}+{LOWER}*{after}|{digits}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}"
    )


MODELS = {
    "llama-bpe": [gpt_4(r"\p{N}{1,3}")],
    "smaug-bpe": [gpt_4(r"\p{N}{1,3}")],
    "qwen2": [gpt_4(r"\p{N}")],
    "qwen35": [gpt_4(r"\p{N}", marks=r"\p{M}")],
    "gpt-2": [GPT_2],
    "starcoder": [r"\p{N}", GPT_2],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT_2, r"[0-9][0-9][0-9]"],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
    "deepseek-v3": [
        r"\p{N}{1,3}",
        "[一-龥\u3040-ゟ゠-ヿ]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{SPACES}",
    ],
    "tekken": [cased("", r"\p{N}")],
    "gpt-4o": [cased(CONTRACTIONS + "?", r"\p{N}{1,3}")],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT_2, r"\p{N}+", r"[0-9][0-9][0-9]"],
}

TEXTS = [
    "Hello, world!",
    "  leading and trailing  ",
    "I'm sure they'll say it's 3 o'clock; WE'VE DON'T 'S 'Tis",
    "tabs\t\tand\t spaces   and\n\nnewlines \r\n \n mixed  \n",
    "   \n   x",
    " \t ",
    "\n",
    " ",
    "1234567 12 3.14159 1,000,000 x86_64 ½ ٣٤٥ Ⅷ",
    "CamelCaseHTTPServer snake_case kebab-case ALLCAPS mIxEd",
    "fn main() { println!(\"{:?}\", a[0]); } // comment\n\tlet x = y -> z;\n",
    "https://example.org/a?b=c&d=%20#frag",
    "Größe naïve e\u0301tude ЁЛКА Ελλάδα ǅ",
    "你好，世界。 日本語テキスト カタカナ 한국어 문장",
    "नमस्ते दुनिया สวัสดี မြန်မာ",
    "🦙👩‍👩‍👧‍👦 emoji🏳️‍🌈s and\u00a0no-break\u3000ideographic\u2003em space",
    "!!!???... --- *** $100 +5 <a|b> `code` ^~",
    "'''quotes''' \"double\" ‘single’ “double” don’t",
    "a  b   c    d\n  e\n\n   f",
    "x\u200by\ufeffz\u0000w",
    "/path/to/file\n\n/other\\path\r\n",
]


def words(patterns, text):
    splits = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns])
    return [word for word, _ in splits.pre_tokenize_str(text)]


if __name__ == "__main__":
    golden = {name: [words(patterns, text) for text in TEXTS] for name, patterns in MODELS.items()}
    pathlib.Path(sys.argv[1]).write_text(json.dumps(golden, ensure_ascii=True, indent=1) + "\n", encoding="utf-8")
