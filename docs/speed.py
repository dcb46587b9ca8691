#!/usr/bin/env python3
"""Draws docs/src/images/speed.svg, load.svg, servers.svg and stalls.svg and writes docs/src/speed-table.md from the files of the same names in
docs/measured. The rows of servers.json are what `bench/guidellm.py --json` writes.

    docs/speed.py

Replace the figures, the date and the machine in the JSON files after measuring again. It needs Python's standard library only.
"""

import json
import math
import textwrap
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = [("decode", "Decode, one sequence"), ("prompt", "Prompt"), ("batch 16", "16 sequences together")]
COLORS = {"Trine": "#d9480f", "llama.cpp": "#4c6ef5", "ik_llama.cpp": "#74a9cf", "bitnet.cpp": "#adb5bd"}
WIDTH, NAME, GAP, BAR, SPACE, TOP = 860, 176, 26, 15, 16, 84


def notes(lines):
    """Small print, cut into lines that fit the picture."""
    return [part for line in lines for part in textwrap.wrap(line, 145)]


def figure(value):
    return f"{value:g}"


def drawing(data):
    shown = TESTS[:2]
    column = (WIDTH - NAME - 20 - GAP * (len(shown) - 1)) / len(shown)
    room = column - 44  # for the number after the longest bar
    out, x, y = [], 20, 50
    for program in data["programs"]:
        color = COLORS[program]
        out.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" rx="2" fill="{color}"/><text x="{x + 18}" y="{y}">{program}</text>')
        x += 46 + 7.2 * len(program)
    y = TOP
    heads = []
    for index, (_, title) in enumerate(shown):
        heads.append(f'<text class="h" x="{NAME + index * (column + GAP):g}" y="{TOP}">{title}</text>')
    y += 16
    longest = {test: max(max(v for k, v in model[test].items() if k in COLORS) for model in data["models"]) for test, _ in shown}
    for model in data["models"]:
        programs = [program for program in COLORS if any(program in model[test] for test, _ in shown)]
        name, format = model["name"].split(", ")
        out.append(f'<text class="h" x="20" y="{y + 12}">{escape(name)}</text><text class="s" x="20" y="{y + 29}">{escape(format)}</text>')
        for row, program in enumerate(programs):
            for index, (test, _) in enumerate(shown):
                value = model[test].get(program)
                if value is None:
                    continue
                left, length = NAME + index * (column + GAP), value / longest[test] * room
                note = model.get("formats", {}).get(program)
                note = f' <tspan class="s">{note}</tspan>' if note else ""
                weight = ' class="h"' if program == "Trine" else ""
                at = y + row * (BAR + 3)
                out.append(f'<rect x="{left:g}" y="{at}" width="{length:.1f}" height="{BAR}" rx="2" fill="{COLORS[program]}"/>')
                out.append(f'<text{weight} x="{left + length + 6:.1f}" y="{at + 12}">{figure(value)}{note}</text>')
        y += len(programs) * (BAR + 3) + SPACE
    for line in notes([f"{data['date']}, {data['machine']}", data["how"]]):
        out.append(f'<text class="s" x="20" y="{y + 6}">{escape(line)}</text>')
        y += 16
    return page("Tokens per second beside native builds of other programs", "; longer is faster", y + 8, heads + out)


def page(title, note, height, parts):
    style = 'text{font:13px system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;fill:#212529}.h{font-weight:600}.s{font-size:11px;fill:#6c757d}.t{font-size:16px;font-weight:600}'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">
<title>{title}</title>
<style>{style}</style>
<rect x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8" fill="#fff" stroke="#dee2e6"/>
<text class="t" x="20" y="28">{title}{note}</text>
{chr(10).join(parts)}
</svg>
"""


def load(data):
    """Two figures in a row, each with a bar for every program."""
    colors, out = ["#d9480f", "#f4a261", "#4c6ef5"], []
    column = (WIDTH - 40 - GAP) / 2
    room = column - 60
    x, y = 20, 50
    for program, color in zip(data["programs"], colors):
        out.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" rx="2" fill="{color}"/><text x="{x + 18}" y="{y}">{escape(program)}</text>')
        x += 46 + 7.2 * len(program)
    for index, shown in enumerate(data["figures"]):
        left, top = 20 + index % 2 * (column + GAP), TOP + index // 2 * (3 * (BAR + 3) + 40)
        out.append(f'<text class="h" x="{left:g}" y="{top}">{escape(shown["name"])}</text>')
        for row, (value, color) in enumerate(zip(shown["values"], colors)):
            at, length = top + 12 + row * (BAR + 3), value / max(shown["values"]) * room
            out.append(f'<rect x="{left:g}" y="{at}" width="{length:.1f}" height="{BAR}" rx="2" fill="{color}"/>')
            out.append(f'<text x="{left + length + 6:.1f}" y="{at + 12}">{figure(value)}</text>')
    y = TOP + 2 * (3 * (BAR + 3) + 40)
    for line in notes([f"{data['date']}, {data['machine']}", data["how"]]):
        out.append(f'<text class="s" x="20" y="{y + 6}">{escape(line)}</text>')
        y += 16
    return page("Sixteen clients at once", "", y + 8, out)


def servers(data):
    """Lines over the number of clients, one for each server, in a figure for each measure."""
    out, x, height, names = [], 20, 150, list(data["servers"])
    shown = [
        ("output_tokens_per_second", 1, "Tokens per second; more is better"),
        ("goodput_per_second", 1, "Goodput, requests per second; more is better"),
        ("ttft_p50_ms", 1e-3, "Time to first token, median, s; less is better"),
        ("itl_p99_ms", 1, "Time between tokens, p99, ms; less is better"),
    ]
    colors = ["#d9480f", "#4c6ef5", "#74a9cf", "#868e96"]
    for name, color in zip(names, colors):
        title = data["servers"][name]
        out.append(f'<rect x="{x}" y="40" width="12" height="12" rx="2" fill="{color}"/><text x="{x + 18}" y="50">{escape(title)}</text>')
        x += 46 + 7.2 * len(title)
    clients = sorted({row["clients"] for row in data["rows"]})
    column = (WIDTH - 40 - 2 * GAP) / 2
    for index, (key, scale, title) in enumerate(shown):
        left, top = 20 + index % 2 * (column + 2 * GAP), TOP + index // 2 * (height + 64)
        begin, bottom, most = left + 40, top + 14 + height, max(row[key] for row in data["rows"]) * scale
        at_x = lambda count: begin + 10 + clients.index(count) / (len(clients) - 1) * (column - 60)
        at_y = lambda value: bottom - value / most * (height - 8)
        out.append(f'<text class="h" x="{left:g}" y="{top}">{escape(title)}</text>')
        unit = 10 ** math.floor(math.log10(most))
        unit *= next(part for part in (2, 1, 0.5, 0.2) if most / unit / part >= 2)
        for step in range(int(most / unit) + 1):
            y = at_y(step * unit)
            out.append(f'<line x1="{begin:g}" x2="{left + column:g}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dee2e6"/>')
            out.append(f'<text class="s" x="{begin - 8:g}" y="{y + 4:.1f}" text-anchor="end">{figure(round(step * unit, 3))}</text>')
        for count in clients:
            out.append(f'<text class="s" x="{at_x(count):.1f}" y="{bottom + 16}" text-anchor="middle">{count}</text>')
        for name, color in zip(names, colors):
            points = [(at_x(row["clients"]), at_y(row[key] * scale)) for row in data["rows"] if row["server"] == name]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            out.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
            out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in points]
    y = TOP + 2 * (height + 64) - 4
    for line in notes(["Below each figure: clients at once.", f"{data['date']}, {data['machine']}", data["how"]]):
        out.append(f'<text class="s" x="20" y="{y}">{escape(line)}</text>')
        y += 16
    return page("Servers beside one another, by guidellm", "", y + 2, out)


def stalls(data):
    """The longest time between two tokens of any stream, half a second by half a second."""
    out, height, left, right = [], 240, 70, WIDTH - 20
    end = max(program["gaps"][-1][0] for program in data["programs"].values()) + 1
    low, high = math.log10(5), math.log10(20_000)
    at_x = lambda seconds: left + seconds / end * (right - left)
    at_y = lambda ms: TOP + height - (math.log10(max(ms, 5)) - low) / (high - low) * height
    for ms, name in ((10, "10 ms"), (100, "100 ms"), (1000, "1 s"), (10_000, "10 s")):
        out.append(f'<line x1="{left}" x2="{right}" y1="{at_y(ms):.1f}" y2="{at_y(ms):.1f}" stroke="#dee2e6"/>')
        out.append(f'<text class="s" x="{left - 8}" y="{at_y(ms) + 4:.1f}" text-anchor="end">{name}</text>')
    for seconds in range(0, int(end), 20):
        out.append(f'<text class="s" x="{at_x(seconds):.1f}" y="{TOP + height + 16}" text-anchor="middle">{seconds} s</text>')
    x = 20
    for (name, program), color in zip(data["programs"].items(), ("#d9480f", "#4c6ef5")):
        out.append(f'<rect x="{x}" y="40" width="12" height="12" rx="2" fill="{color}"/><text x="{x + 18}" y="50">{name}</text>')
        x += 46 + 7.2 * len(name)
        line = " ".join(f"{at_x(seconds):.1f},{at_y(ms):.1f}" for seconds, ms in program["gaps"])
        out.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        begin, done = map(at_x, program["late"])
        y = TOP + height - (6 if color == "#d9480f" else 14)
        out.append(f'<line x1="{begin:.1f}" x2="{done:.1f}" y1="{y}" y2="{y}" stroke="{color}" stroke-width="4" opacity=".35"/>')
    y = TOP + height + 40
    for line in ["Bars at the bottom: while the prompt was read.", f"{data['date']}, {data['machine']}", data["how"]]:
        out.append(f'<text class="s" x="20" y="{y}">{escape(line)}</text>')
        y += 16
    return page("Eight streams while a prompt of 30,000 tokens is read", ": longest time between two tokens", y + 2, out)


def table(data):
    out = [f"<!-- Written by docs/speed.py from docs/measured/speed.json. -->\n{data['date']}, {data['machine']};\n{data['how']}. Tokens per second:\n"]
    programs = list(data["programs"])
    out.append(f"| model | test | {' | '.join(programs)} |")
    out.append("|---|---|" + "---|" * len(programs))
    for model in data["models"]:
        for test, title in TESTS:
            if test not in model:
                continue
            label = f"prompt of {model[test]['tokens']}" if test == "prompt" else title.lower()
            cells = []
            for program in programs:
                value, note = model[test].get(program), model.get("formats", {}).get(program)
                cells.append("" if value is None else figure(value) + (f" ({note})" if note else ""))
            out.append(f"| {model['name']} | {label} | {' | '.join(cells)} |")
    out.append("")
    out += [f"- {program}: {build}" for program, build in data["programs"].items()]
    return "\n".join(out) + "\n"


data = json.loads((HERE / "measured/speed.json").read_text())
(HERE / "src/images/speed.svg").write_text(drawing(data))
(HERE / "src/speed-table.md").write_text(table(data))
for drawn in load, servers, stalls:
    measured = json.loads((HERE / f"measured/{drawn.__name__}.json").read_text())
    (HERE / f"src/images/{drawn.__name__}.svg").write_text(drawn(measured))
