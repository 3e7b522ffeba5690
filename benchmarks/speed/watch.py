"""A real `plainloop train`, watched from outside: when it says what, when each step ends."""

import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from speed.child import LINES_SHOWN, memory_of

POLL_SECONDS = 0.01


@dataclass
class Watched:
    """What was seen of a run, in seconds after its start and in bytes.

    Attributes:
        said: title of a printed line, such as Tokenize -> when it was there; of several lines with
            one title the last.
        steps: when the record of each optimizer step was there.
        peak_memory: the most that the process had, mapped files included.
        own_memory: the most that it had after a step, without what it only maps from files.
    """

    said: dict[str, float] = field(default_factory=dict)
    steps: list[float] = field(default_factory=list)
    peak_memory: int = 0
    own_memory: int = 0


def watch(flags: list[str], folder: Path, environment: dict[str, str]) -> Watched:
    """Run `plainloop train` and watch it to its end.

    Args:
        flags: of the command; the steps that are seen are those that are logged.
        folder: a new one; the run goes into it.
        environment: of the command.

    Raises:
        RuntimeError: the command failed.
    """
    watched = Watched()
    folder.mkdir()
    run, printed, errors = folder / "run", folder / "printed.txt", folder / "errors.txt"
    command = [sys.executable, "-u", "-m", "plainloop", "train", *flags, "--output-dir", str(run)]
    with printed.open("w") as out, errors.open("w") as err:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
    with printed.open(encoding="utf-8") as lines:
        history = run / "history.jsonl"
        size = 0
        running = True
        while running:
            running = process.poll() is None  # before reading, so that nothing is missed at the end
            now = time.perf_counter() - started
            for line in lines:
                watched.said[line[:14].strip()] = now
            if history.exists() and (grown := history.stat().st_size) > size:
                size = grown
                new = history.read_text(encoding="utf-8").count("\n") - len(watched.steps)
                watched.steps += [now] * new
                if running:
                    own, peak = (memory_of(process.pid, name) for name in ("RssAnon", "VmHWM"))
                    watched.own_memory = max(watched.own_memory, own)
                    watched.peak_memory = max(watched.peak_memory, peak)
            time.sleep(POLL_SECONDS)
    if process.returncode:
        said = errors.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES_SHOWN:]
        raise RuntimeError("\n".join([f"plainloop train {' '.join(flags)} failed:", *said]))
    return watched
