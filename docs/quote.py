"""Put the code where the pages quote it: run it after a quoted file has changed (`make quotes`).

In docs/*.md, `path:number` `code` gets the number of the line that holds the code now, the one
nearest to where it was. README.md shows the loop as loop.py has it,
docs/from-plain-to-accelerate.md the difference of the two examples, and docs/tutorial.md, like
docs/ko/tutorial.md, what Accelerate changes in the script that its blocks make.
"""

import difflib
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import sources

ROOT = Path(__file__).parent.parent
QUOTED = re.compile(r"`((?:src/|train\.py)[^`:]*):(\d+)` `([^`]+)`")
DIFFERENCE = re.compile(r"(```diff\n).*?(\n```)", re.DOTALL)
TUTORIAL_DIFFERENCE = re.compile(r"(<!-- difference -->\n```diff\n)(.*?)(```\n)", re.DOTALL)
UNMARKED = re.compile(r"(?<!-->\n)^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
LOOP = re.compile(r"(<!-- loop -->\n<!-- run by: [^\n]*\n```python\n).*?(```\n)", re.DOTALL)


def line_of(path: str, number: str, code: str) -> str:
    """A quotation with the line number of its code."""
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


def difference(plain: str, accelerated: str) -> str:
    """The unified difference of two scripts, without the lines that name files."""
    lines = difflib.unified_diff(plain.splitlines(), accelerated.splitlines(), n=1, lineterm="")
    return "\n".join(lines).partition("+++ \n")[2]


def example(name: str) -> str:
    """A script of examples/."""
    return (ROOT / "examples" / name).read_text(encoding="utf-8")


def tutorial_script(page: str) -> str:
    """The Python blocks above the tutorial's difference; the course's own lines are marked."""
    return "\n".join(UNMARKED.findall(page.partition("<!-- difference -->")[0]))


def patched(script: str, changes: str) -> str:
    """The script with the changes applied, at other line numbers if need be."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "script.py")
        file.write_text(script, encoding="utf-8")
        command = ["patch", "--quiet", file]
        subprocess.run(command, input=changes, text=True, check=True)  # noqa: S603
        return file.read_text(encoding="utf-8")


def renewed_tutorial(page: str) -> str:
    """The tutorial, its difference with the line numbers and context of its blocks as they are now."""
    script = tutorial_script(page)
    return TUTORIAL_DIFFERENCE.sub(
        lambda block: f"{block[1]}{difference(script, patched(script, block[2]))}\n{block[3]}", page
    )


def renew() -> None:
    """Renew what all pages quote."""
    for page in (ROOT / "docs").rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        text = QUOTED.sub(lambda quote: line_of(*quote.groups()), text)
        if page.name == "from-plain-to-accelerate.md":
            changes = difference(example("plain_pytorch.py"), example("plain_accelerate.py"))
            text = DIFFERENCE.sub(lambda block, new=changes: block[1] + new + block[2], text)
        if page.name == "tutorial.md":
            text = renewed_tutorial(text)
        text = sources.renewed(text)
        page.write_text(text, encoding="utf-8")
    readme = ROOT / "README.md"
    text = sources.renewed(readme.read_text(encoding="utf-8"))
    readme.write_text(LOOP.sub(lambda block: block[1] + loop() + block[2], text), encoding="utf-8")


if __name__ == "__main__":
    renew()
