"""Put the code where the pages quote it: run it after a quoted file has changed (`make quotes`).

In docs/*.md, `path:number` `code` gets the number of the line that holds the code now, the one
nearest to where it was. README.md shows the loop as loop.py has it, and
docs/from-plain-to-accelerate.md the difference of the two examples.
"""

import difflib
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent
QUOTED = re.compile(r"`((?:src/|train\.py)[^`:]*):(\d+)` `([^`]+)`")
DIFFERENCE = re.compile(r"(```diff\n).*?(\n```)", re.DOTALL)
LOOP = re.compile(r"(<!-- loop -->\n<!-- run by: [^\n]*\n```python\n).*?(```\n)", re.DOTALL)


def line_of(path: str, number: str, code: str) -> str:
    """A quotation with the number of the line where its code stands."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    found = [at for at, line in enumerate(lines, start=1) if code in line]
    if not found:
        sys.exit(f"{path} no longer has the quoted {code!r}")
    return f"`{path}:{min(found, key=lambda at: abs(at - int(number)))}` `{code}`"


def loop() -> str:
    """The loop, from its epochs to where the gradients are cleared."""
    lines = (ROOT / "src/plainloop/training/loop.py").read_text(encoding="utf-8").splitlines()
    start = next(at for at, line in enumerate(lines) if line.strip().startswith("for epoch in "))
    end = next(
        at for at, line in enumerate(lines) if at > start and "optimizer.zero_grad()" in line
    )
    return textwrap.dedent("\n".join(lines[start : end + 1])) + "\n"


def difference() -> str:
    """What Accelerate changes in the tutorial's script."""
    plain, accelerated = (
        (ROOT / "examples" / name).read_text(encoding="utf-8").splitlines()
        for name in ("plain_pytorch.py", "plain_accelerate.py")
    )
    lines = difflib.unified_diff(plain, accelerated, n=1, lineterm="")
    return "\n".join(lines).partition("+++ \n")[2]


if __name__ == "__main__":
    for page in (ROOT / "docs").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        text = QUOTED.sub(lambda quote: line_of(*quote.groups()), text)
        if page.name == "from-plain-to-accelerate.md":
            text = DIFFERENCE.sub(lambda block: block[1] + difference() + block[2], text)
        page.write_text(text, encoding="utf-8")
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(LOOP.sub(lambda block: block[1] + loop() + block[2], text), encoding="utf-8")
