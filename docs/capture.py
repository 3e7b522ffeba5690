"""Picture a command in a terminal, docs/images/demo.svg: run it, draw what stays on the screen.

`python docs/capture.py plainloop demo` draws the picture of the README; `make pictures` calls it.
"""

import re
import sys
from pathlib import Path

import pexpect
from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).parent / "images" / "demo.svg"
COLUMNS = 112
MOST_SECONDS = 3600


def screen_of(shown: str) -> str:
    """What stays on the screen: progress bars are drawn over themselves, some above others."""
    lines: list[list[str]] = [[]]
    row = column = 0
    for key in re.findall(r"\x1b\[A|\x1b\[[\d;]*m|.|\n", shown):
        if key == "\n":
            row += 1
            if row == len(lines):
                lines.append([])
        elif key == "\r":
            column = 0
        elif key == "\x1b[A":
            row -= 1
        elif len(key) == 1:
            lines[row] += " " * (column - len(lines[row]))
            lines[row][column : column + 1] = key
            column += 1
    return "\n".join("".join(line).rstrip() for line in lines).rstrip()


def picture(command: list[str], path: Path = PICTURE) -> str:
    """Run a command and write the picture of it; return what stays on the screen."""
    terminal = pexpect.spawn(
        command[0],
        command[1:],
        dimensions=(50, COLUMNS),
        encoding="utf-8",
        timeout=MOST_SECONDS,
    )
    shown = terminal.read()
    terminal.close()
    if terminal.exitstatus:
        sys.exit(shown)
    console = Console(record=True, width=COLUMNS)
    console.print(Text(f"$ {' '.join(command)}", style="bold"))
    screen = screen_of(shown)
    console.print(Text(screen))
    svg = console.export_svg(title="plainloop")
    # A font of the reader's own: no picture fetches anything.
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    path.write_text(svg.replace("Fira Code, monospace", "monospace"), encoding="utf-8")
    return screen


if __name__ == "__main__":
    picture(sys.argv[1:])
