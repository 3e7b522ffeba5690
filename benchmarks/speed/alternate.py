"""Several sides in turn, A B C A B C, so that what the machine does meanwhile meets all alike."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from speed.child import Child

Answers = dict[str, list[dict[str, Any]]]


def alternate(
    commands: Mapping[str, tuple[str, ...]],
    *,
    warm_up: Mapping[str, Any],
    request: Mapping[str, Any],
    repeats: int,
    folder: Path,
    threads: int,
    title: str,
) -> Answers:
    """Ask each side to warm up, then all in turn for a block of work, several times.

    Args:
        commands: side -> module and arguments of its process.
        warm_up: the first request.
        request: the one that is repeated.
        repeats: how often each side is asked for a block.
        folder: for the logs.
        threads: of each side.
        title: of the progress bar.

    Returns:
        side -> its answers, one a repeat.

    Raises:
        RuntimeError: a side failed.
    """
    answers: Answers = {side: [] for side in commands}
    bar = tqdm(total=(repeats + 1) * len(commands), desc=title, unit="block", leave=False)
    with bar, ExitStack() as stack:
        children = {
            side: stack.enter_context(Child(*words, log=folder / f"{number}.log", threads=threads))
            for number, (side, words) in enumerate(commands.items())
        }
        for side, child in children.items():
            bar.set_postfix_str(f"{side} warms up")
            child.ask(**warm_up)
            bar.update()
        for _ in range(repeats):
            for side, child in children.items():
                bar.set_postfix_str(side)
                answers[side].append(child.ask(**request))
                bar.update()
    return answers
