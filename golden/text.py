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


def cased(after, digits, upper=UPPER, lower=LOWER, slash="/"):
    start = r"[^\r\n\p{L}\p{N}]?"
    return (
        rf"{start}{upper}*{lower}+{after}|{start}{upper}+{lower}*{after}|{digits}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n{slash}]*|{SPACES}"
    )


def deepseek(signs):
    return (
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        rf"| ?[\p{{P}}\p{{S}}]+{signs}\s+(?!\S)|\s+"
    )


LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿ\u0386\u0388-\u038a\u038c\u038e-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚ"
    "\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4"
    "\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc"
    "ℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
CJK = "[一-龥\u3040-ゟ゠-ヿ]+"
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
LINES = r"[^\n]+|[\n]+"


MODELS = {
    "llama-bpe": [gpt_4(r"\p{N}{1,3}")],
    "smaug-bpe": [gpt_4(r"\p{N}{1,3}")],
    "qwen2": [gpt_4(r"\p{N}")],
    "qwen35": [gpt_4(r"\p{N}", marks=r"\p{M}")],
    "gpt-2": [GPT_2],
    "starcoder": [r"\p{N}", GPT_2],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT_2, r"[0-9][0-9][0-9]"],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
    "deepseek-llm": [
        r"[\r\n]", rf"\s?[{LETTERS}]+", "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+", r"\s+$", "[一-龥ࠀ-一가-퟿]+", r"\p{N}+",
    ],
    "deepseek-v3": [r"\p{N}{1,3}", CJK, deepseek(r"[\r\n]*|\s*[\r\n]+|")],
    "spark2_5": [r"\p{N}{1,3}", CJK, deepseek(r"|[\r\n]|"), r"\p{N}"],
    "afmoe": [
        r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))",
        "[一-\u9fff㐀-\u4dbf\uf900-\ufaff\u3040-ゟ゠-ヿ･-ﾟ\u2f00-\u2fdfเ-\u0e7f\u0e80-\u0effក-\u17ffက-႟ꩠ-ꩿꧠ-\ua9ff가-\ud7afᄀ-ᇿ]+",
        deepseek(r"[\r\n]*|\s*[\r\n]+|"),
    ],
    "jais-2": [
        gpt_4(r"\p{N}{1,3}").removesuffix(r"|\s+(?!\S)|\s+")
        + "".join(rf"|\s{{{2**n}}}(?!\S)" for n in range(9, 1, -1)) + r"|\s{1,2}(?!\S)|\s{1}"
    ],
    "minicpm5": [r"\p{N}{1,3}", gpt_4(r"\p{N}+")],
    "laguna": [LINES, gpt_4(r"\p{N}")],
    "ufakzeka": [gpt_4(r"\p{N}").removeprefix(CONTRACTIONS + "|")],
    "seed-coder": [
        rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{SPACES}"
    ],
    "bailingmoe": [
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
    ],
    "exaone-moe": [
        rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
    ],
    "chameleon": [
        "<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", r"([\t\n]|    |  )", r"\p{N}",
        r"[\p{P}!-/:-@\[-`{-~]", GPT_2,
    ],
    "bloom": [BLOOM],
    "viking": [BLOOM, r"\p{N}"],
    "granite-embed-multi-97m": [cased(CONTRACTIONS + "?", r"\p{N}{1,3}")],
    "tiny_aya": [r"\d{1,3}(?=(?:\d{3})*\b)", cased(CONTRACTIONS + "?", r"\p{N}{1,3}")],
    "youtu": [
        "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-\u303f\ufe30-\ufe4f]+|[ㄅ-ㄯ]+|[一-龥\u3040-ゟ゠-ヿ]+",
        cased(CONTRACTIONS + "?", r"\p{N}"),
    ],
    "kimi-k2": [
        r"[\p{Han}]+|" + cased(
            CONTRACTIONS + "?", r"\p{N}{1,3}", UPPER[:-1] + r"&&[^\p{Han}]]", LOWER[:-1] + r"&&[^\p{Han}]]", slash="")
    ],
    "superbpe": [r"\p{N}+", r"(?=(\d{3})+(?!\d))"],
    "gemma4": [LINES],
    "sarvam-moe": [LINES],
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
    "1 12 123 1234 12345 123456 1234567890 12ab a1234 1234_5 １２３４ 12½34 ३४५६",
    "a    b     c      d        e         f" + " " * 37 + "g" + "\t" * 9 + "h" + " " * 600 + "i" + " " * 21,
    "IMGIMGABCZ <sentinel:12> ㄱㄴ ㅏ가나다 ㄅㄆ ﷽ 漢字かなカナ混じり文，。！？… 𠀀𠀁漢a漢B",
    "naïve  x　y zwvus",
    "ΆΈΩΪ ώΐΐι ΩK ﬀ Ｚｚ 𐐀 𞤀 ǅ ʰ ª ـ ़ ः",
    "a.b,c!d? (e) |f| ، ۔ । … 'S 'LL 'Re x'M 'ſ it’s",
]


def words(patterns, text):
    splits = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns])
    return [word for word, _ in splits.pre_tokenize_str(text)]


if __name__ == "__main__":
    golden = {name: [words(patterns, text) for text in TEXTS] for name, patterns in MODELS.items()}
    pathlib.Path(sys.argv[1]).write_text(json.dumps(golden, ensure_ascii=True, indent=1) + "\n", encoding="utf-8")
