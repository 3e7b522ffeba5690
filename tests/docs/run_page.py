"""Run a page's blocks from top to bottom in this folder: python run_page.py PAGE.

Each sh block by a bash of its own, the python blocks in one namespace.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from blocks import Block, blocks_of


def run(block: Block, names: dict[str, Any]) -> None:
    if block.file is not None:
        Path(block.file).write_text(block.content, encoding="utf-8")
    elif block.language == "sh":
        subprocess.run(["bash", "-euc", block.content], check=True)
    elif block.language == "python":
        # A traceback then has the page's line numbers.
        source = "\n" * block.line + block.content
        exec(compile(source, str(block.page), "exec"), names)


if __name__ == "__main__":
    sys.path.insert(0, "")
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(Path(sys.argv[1])):
        if not (block.not_run or block.run_by):
            print(f"--- {block}", flush=True)
            run(block, names)
