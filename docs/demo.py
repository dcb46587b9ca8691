#!/usr/bin/env python3
"""Records docs/src/images/demo.svg: the commands below, run by the release build in a terminal of its own.

    cargo build --release && docs/demo.py [--program target/release/trine]

Output appears in the recording as fast as the program printed it. The picture is one SVG file with CSS animations and no scripts, as GitHub allows;
without animations it shows the last screen. It needs Python's standard library only.
"""

import argparse
import fcntl
import html
import os
import pty
import re
import select
import shutil
import struct
import tempfile
import termios
import time
from pathlib import Path

COMMANDS = [
    'trine run embedded:stories "Once upon a time" --echo --seed 7 --max-tokens 110',
    "trine info embedded:stories | head -n 9",
    "trine quantize embedded:stories small.gguf --format i2_s",
    'trine run small.gguf "Once upon a time" --raw --echo --seed 7 --max-tokens 50',
]
COLUMNS, ROWS = 120, 23
CELL, LINE, SIZE, PAD, BAR = 8.4, 19, 14, 16, 34
KEY, READ, END = 0.03, 2.0, 6.0  # seconds: between keys, after a command's output, before the recording repeats
TICK = 0.04  # output that comes closer together than this is one change of the picture

HERE = Path(__file__).resolve().parent
STYLES = {1: "b", 2: "d", 31: "r", 32: "g", 33: "y", 34: "u", 35: "m", 36: "c", 90: "d"}


class Screen:
    """Lines of (character, style), of which a program's output overwrites the last ones."""

    def __init__(self):
        self.lines, self.column, self.style = [[]], 0, ""

    def write(self, text):
        for escape, other in re.findall(r"(\x1b\[[0-9;?]*[A-Za-z])|([\s\S])", text):
            self.escape(escape) if escape else self.put(other)

    def put(self, char):
        if char == "\n":
            self.lines.append([])
        elif char == "\r":
            self.column = 0
        elif char >= " ":
            if self.column == COLUMNS:
                self.lines.append([])
                self.column = 0
            line = self.lines[-1]
            line.extend([(" ", "")] * (self.column + 1 - len(line)))
            line[self.column] = (char, self.style)
            self.column += 1

    def escape(self, code):
        numbers = [int(number) for number in re.findall(r"\d+", code)]
        line = self.lines[-1]
        if code[-1] == "m":
            self.style = " ".join(STYLES[number] for number in numbers if number in STYLES)
        elif code[-1] == "K":
            del line[0 if numbers == [2] else self.column :]
        elif code[-1] == "G":
            self.column = max(numbers[0] - 1, 0) if numbers else 0
        elif code[-1] == "D":
            self.column = max(self.column - (numbers[0] if numbers else 1), 0)
        elif code[-1] == "A":
            for _ in range(numbers[0] if numbers else 1):
                self.lines.pop()


def record(commands, program):
    """(seconds, lines) of each change of the screen."""
    screen, now, frames = Screen(), 0.0, []
    show = lambda: frames.append((now, [tuple(line) for line in screen.lines]))
    prompt = lambda: screen.write("\x1b[32m$\x1b[0m ")
    prompt()
    show()
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(program, os.path.join(folder, "trine"))
        for command in commands:
            now += 0.6
            for key in command:
                now += KEY
                screen.write(key)
                show()
            now += 0.3
            screen.write("\r\n")
            start = time.monotonic()
            for seconds, text in run(command, folder):
                screen.write(text)
                if now + seconds - start - frames[-1][0] >= TICK:
                    frames.append((now + seconds - start, [tuple(line) for line in screen.lines]))
            now += time.monotonic() - start
            if screen.column > 0:
                screen.write("\r\n")
            prompt()
            show()
            now += READ
    return frames, now + END - READ


def run(command, folder):
    """What a command prints on a terminal, with the time of each piece."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.environ.update(TERM="xterm-256color", PATH=f"{folder}:{os.environ['PATH']}")
        os.execvp("sh", ["sh", "-c", command])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    rest = b""
    while True:
        select.select([terminal], [], [])
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the terminal closes with its last program
            break
        if not piece:
            break
        rest += piece
        whole = rest.decode("utf-8", "ignore")
        rest = rest[len(whole.encode()) :]
        yield time.monotonic(), whole
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, command


def spans(line):
    """A line as SVG text, one element for each run of a style; every run has its exact width, whatever the font."""
    out, start = [], 0
    while start < len(line):
        end = start
        while end < len(line) and line[end][1] == line[start][1]:
            end += 1
        text = "".join(char for char, _ in line[start:end])
        if text.strip():
            style = f' class="{line[start][1]}"' if line[start][1] else ""
            width = f' x="{start * CELL:g}" textLength="{(end - start) * CELL:g}" lengthAdjust="spacingAndGlyphs"'
            out.append(f"<tspan{width}{style}>{html.escape(text)}</tspan>")
        start = end
    return "".join(out)


def svg(frames, length):
    percent = lambda seconds: f"{100 * seconds / length:.2f}%"
    rules, body = [], []
    # Each line has versions: what it held from one time to another.
    versions = {}
    for at, lines in frames:
        for row in range(max(len(lines), len(versions))):
            content = lines[row] if row < len(lines) else ()
            history = versions.setdefault(row, [])
            if not history or history[-1][1] != content:
                history.append((at, content))
    times = {}
    for row, history in versions.items():
        for (start, content), (end, _) in zip(history, history[1:] + [(None, None)]):
            text = spans(content)
            if not text:
                continue
            name = times.setdefault((start, end), f"t{len(times)}")
            last = "" if end is None else " o"
            body.append(f'<text class="{name}{last}" y="{row * LINE:g}">{text}</text>')
    for (start, end), name in times.items():
        hidden = "" if end is None else f"{percent(end)}{{visibility:hidden}}"
        first = "0%{visibility:hidden}" if start > 0 else ""
        rules.append(f"@keyframes {name}{{{first}{percent(start)}{{visibility:visible}}{hidden}}}.{name}{{animation-name:{name}}}")
    # The screen scrolls when it is full.
    scroll, steps = 0, ["0%{transform:translateY(0)}"]
    for at, lines in frames:
        above = max(0, len(lines) - ROWS)
        if above != scroll:
            scroll = above
            steps.append(f"{percent(at)}{{transform:translateY({-scroll * LINE:g}px)}}")
    width, height = COLUMNS * CELL + 2 * PAD, ROWS * LINE + PAD + BAR
    style = f"""
text{{font:{SIZE}px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace;fill:#d7dce2;white-space:pre}}
.b{{font-weight:bold}}.d{{fill:#8b949e}}.r{{fill:#ff7b72}}.g{{fill:#7ee787}}.y{{fill:#e3b341}}.u{{fill:#79c0ff}}.m{{fill:#d2a8ff}}.c{{fill:#76e3ea}}
.o{{visibility:hidden}}
#s{{transform:translateY({-scroll * LINE:g}px)}}
@media (prefers-reduced-motion:no-preference){{
text,#s{{animation-duration:{length:.2f}s;animation-timing-function:step-end;animation-iteration-count:infinite}}#s{{animation-name:s}}
@keyframes s{{{"".join(steps)}}}
{"".join(rules)}
}}"""
    dots = "".join(f'<circle cx="{PAD + 4 + 18 * i}" cy="17" r="5.5" fill="{color}"/>' for i, color in enumerate(["#ff5f57", "#febc2e", "#28c840"]))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img">
<title>A terminal session: trine tells a story, shows what is in its model, converts it and runs the result</title>
<style>{style}
</style>
<rect width="100%" height="100%" rx="9" fill="#161b22"/>
{dots}
<svg x="{PAD}" y="{BAR}" width="{COLUMNS * CELL:g}" height="{ROWS * LINE}"><g id="s"><g transform="translate(0 {SIZE})">
{chr(10).join(body)}
</g></g></svg>
</svg>
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default=HERE.parent / "target/release/trine", type=Path)
    options = parser.parse_args()
    program = shutil.which(options.program) or parser.error(f"expected a program at {options.program}: cargo build --release")
    frames, length = record(COMMANDS, os.path.abspath(program))
    (HERE / "src/images/demo.svg").write_text(svg(frames, length))


if __name__ == "__main__":
    main()
