"""A side of a comparison: a process of its own that works when it is asked, and else sleeps.

Requests and answers are lines of JSON on the child's stdin and stdout. Only one child of a comparison
is ever asked at a time; the others wait for their next line.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

BENCHMARKS = Path(__file__).parent.parent
LINES_SHOWN = 20


def environment(threads: int) -> dict[str, str]:
    """What every process that is measured finds: the same threads, no hub, the allocator as it is."""
    paths = [str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(paths),
    }


class Child:
    """The parent's end of a child.

    Args:
        words: the child's module and its arguments.
        log: file that takes what the child prints; its end is shown where the child fails.
        threads: of the child.
    """

    def __init__(self, *words: str, log: Path, threads: int) -> None:
        self.log = log
        with log.open("w", encoding="utf-8") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=environment(threads),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self.process.stdin
        assert self.process.stdout
        with suppress(BrokenPipeError):  # it has ended, as `ask` reports
            self.process.stdin.close()  # which ends it
        self.process.stdout.close()
        self.process.wait()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Let the child work on a request; return its answer.

        Raises:
            RuntimeError: the child has ended instead.
        """
        assert self.process.stdin
        assert self.process.stdout
        line = ""
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            pass
        if not line:
            said = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            raise RuntimeError("\n".join([f"{self.log.stem} failed:", *said[-LINES_SHOWN:]]))
        answer: dict[str, Any] = json.loads(line)
        return answer


class Requests:
    """The child's end. What the process prints goes to stderr from now on."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def next(self) -> dict[str, Any]:
        """Wait for the next request; end the process where there will be none."""
        line = sys.stdin.readline()
        if not line:
            sys.exit()
        request: dict[str, Any] = json.loads(line)
        return request

    def answer(self, **values: Any) -> None:
        """Answer the request."""
        print(json.dumps(values), file=self._answers, flush=True)


def peak_memory() -> int:
    """The most bytes of memory that this process has had so far.

    It is the system's VmHWM. `ru_maxrss` would be the parent's where the parent had more.
    """
    return memory_of("self", "VmHWM")


def memory_of(process: int | str, what: str) -> int:
    """Bytes of a process's memory, by a name of /proc/PID/status; 0 where it has just ended."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    kibibytes = [line.split()[1] for line in status.splitlines() if line.startswith(f"{what}:")]
    return int(kibibytes[0]) * 1024 if kibibytes else 0
