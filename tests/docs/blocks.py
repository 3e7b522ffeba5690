"""The code blocks of a page, and what its comments say of them."""

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
# docs/ko/NAME.md: docs/NAME.md
TRANSLATIONS = {page: DOCS / page.relative_to(DOCS / "ko") for page in (DOCS / "ko").rglob("*.md")}
CODE = {"sh", "python"}
NO_CODE = {"yaml", "text", "diff", "json", "csv", "html"}
BLOCK = re.compile(
    r"(?:^[ ]*<!-- (?P<mark>not run|run by): (?P<says>.+?) -->\n(?:[ ]*\n)?)?"
    r"^(?P<indent>[ ]*)```(?P<language>[^\n`]*)\n(?P<content>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
FILE = re.compile(r"# ([\w./-]+\.ya?ml)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, its language, its lines."""

    page: Path
    line: int
    language: str
    content: str
    not_run: str | None
    """Why no test runs it."""
    run_by: str | None
    """tests/path.py::test_name, the test that runs it."""

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def is_code(self) -> bool:
        """Code, or a command with what it printed (a line that begins with a dollar)."""
        shows_a_command = re.search(r"^\$ ", self.content, re.MULTILINE) is not None
        return self.language in CODE or (self.language == "text" and shows_a_command)

    @property
    def file(self) -> str | None:
        """The file that a yaml block is written to, which its first line names."""
        named = FILE.match(self.content) if self.language == "yaml" else None
        return named[1] if named else None


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    blocks = []
    for found in BLOCK.finditer(text):
        indent = found["indent"]
        lines = [line.removeprefix(indent) for line in found["content"].splitlines()]
        blocks.append(
            Block(
                page=page,
                line=text.count("\n", 0, found.start("language")) + 1,
                language=found["language"].split(" ")[0],
                content="".join(f"{line}\n" for line in lines),
                not_run=found["says"] if found["mark"] == "not run" else None,
                run_by=found["says"] if found["mark"] == "run by" else None,
            )
        )
    return blocks
