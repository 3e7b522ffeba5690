"""Inline script metadata (PEP 723): Python and the packages of a script, with which `uv run` starts it."""

import ast
import sys
from collections.abc import Collection
from importlib.metadata import version

CPU_BUILD = "+cpu"
CPU_INDEX = """\
# # The torch for CPUs is 190 MB. Without these lines Linux gets that for CUDA, 2.7 GB in all.
# [tool.uv]
# sources.torch.index = "pytorch-cpu"
# index = [
#     { name = "pytorch-cpu", url = "https://download.pytorch.org/whl/cpu", explicit = true },
# ]
"""
CUDA_SIZE = "# # On Linux, torch of this version for CUDA is a download of 2.7 GB.\n"


def inline_metadata(source: str, more: Collection[str] = ()) -> str:
    """Format the metadata of a script: the installed versions of the packages that it imports.

    A torch for CPUs is taken from PyTorch's own index, since PyPI's for Linux is for CUDA.

    Args:
        source: of the script.
        more: packages that it needs without an import.
    """
    names = {
        (node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[
            0
        ]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    versions = {name: version(name) for name in sorted(names - sys.stdlib_module_names | {*more})}
    # "+cpu" is PyTorch's name for the build, and not a part of the version on other indexes.
    pins = [f'#     "{name}=={known.partition("+")[0]}",' for name, known in versions.items()]
    torch = CPU_INDEX if versions.get("torch", "").endswith(CPU_BUILD) else CUDA_SIZE
    lines = ["# /// script", '# requires-python = ">=3.11"', "# dependencies = [", *pins, "# ]"]
    return "\n".join([*lines, f"{torch}# ///", ""])
