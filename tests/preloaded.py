"""A Python for the tests' commands that has imported torch already: each command starts 5 s sooner.

    python preloaded.py SOCKET     the server: it imports, then forks a process for each command
    FOLDER/python WORDS            the client (below): what the tests start as they would start python

A command is still a process of its own with its own memory, arguments, environment, folder, streams
and exit code; signals sent to the client reach it, and it dies with the client. The server runs
nothing before the fork but imports, of which none is plainloop's own. A command that asks for
something that is settled when Python or torch starts (an option of the interpreter, another number
of threads, another home of the hub) becomes a real new Python.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Request = dict[str, Any]

LIBRARIES = (
    "accelerate.commands.launch",
    "datasets",
    "jinja2",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "pyarrow.csv",
    "pyarrow.parquet",
    "rich.console",
    "safetensors.torch",
    "scipy.stats",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "sklearn.metrics",
    "torch.distributed.run",
    "torch.optim.lr_scheduler",
    "transformers.integrations",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.trainer",
)
LAUNCHERS = {
    "accelerate.commands.accelerate_cli",
    "accelerate.commands.launch",
    "torch.distributed.run",
}
# Read when something is imported.
SETTLED = ("OMP_", "MKL_", "HF_", "TRANSFORMERS_", "PYTHON", "LD_", "CUDA_")

CLIENT = """\
#!{python} -IS
import os, signal, sys
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
if name != "python":
    words = [os.path.join({programs!r}, name), *words]
def become_python():
    os.execv({python!r}, [{python!r}, *words])
# What else it inherits cannot be handed on; /proc/self/fd itself is open while it is listed.
if [fd for fd in os.listdir("/proc/self/fd") if int(fd) > 2][1:]:
    become_python()
import array, json, socket
pid, early = 0, []
def forward(number, frame):
    try:
        os.kill(pid, number) if pid else early.append(number)
    except ProcessLookupError:  # it has ended, and its code is on the way
        pass
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, forward)  # also where this one ignores it, as under nohup: the other decides
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps(dict(words=words, folder=os.getcwd(), environment=dict(os.environ)))
request = request.encode()
server.sendall(len(request).to_bytes(8, "big"))
fds = array.array("i", [0, 1, 2])
server.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
server.sendall(request)
answers = server.makefile("rb")
pid = int(answers.readline())
if pid == 0:
    become_python()
for number in early:
    os.kill(pid, number)
for fd in (0, 1, 2):
    os.close(fd)
code = int(answers.readline() or -9)
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code not in (9, 19) else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class Server:
    """Forks a process for each client that connects."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ, self.accept)
        # It ends with the tests, which hold the other end.
        self.selector.register(0, selectors.EVENT_READ, self.end)
        self.running: dict[int, tuple[int, socket.socket]] = {}  # pidfd: pid, client

    def serve(self) -> Request:
        """Serve until the tests end; in a forked process, return what it has to run."""
        while True:
            for key, _ in self.selector.select():
                if request := key.data(key.fileobj):
                    return request

    def accept(self, listener: socket.socket) -> Request | None:
        client, _ = listener.accept()
        length = int.from_bytes(client.recv(8, socket.MSG_WAITALL), "big")
        _, streams, _, _ = socket.recv_fds(client, 1, 3)
        content = client.recv(length, socket.MSG_WAITALL)
        if len(streams) < 3 or len(content) < length:  # it was killed
            return client.close()
        request = json.loads(content)
        pid = os.fork() if can_be_forked(request) else None
        if pid == 0:
            self.become(client, streams)
            return request
        for stream in streams:
            os.close(stream)
        with contextlib.suppress(BrokenPipeError):
            client.sendall(f"{pid or 0}\n".encode())
        if pid is None:
            return client.close()
        watched = os.pidfd_open(pid)
        self.running[watched] = pid, client
        self.selector.register(watched, selectors.EVENT_READ, self.tell)
        self.selector.register(client, selectors.EVENT_READ, self.kill)
        return None

    def become(self, client: socket.socket, streams: list[int]) -> None:
        """In the forked process: keep nothing of the server's, and take the client's streams."""
        self.selector.close()
        for one in (self.listener, client, *(other for _, other in self.running.values())):
            one.close()
        for watched in self.running:
            os.close(watched)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)

    def tell(self, watched: int) -> None:
        """Tell the client how its process ended."""
        pid, client = self.running.pop(watched)
        self.selector.unregister(watched)
        os.close(watched)
        _, status = os.waitpid(pid, 0)
        if client.fileno() >= 0:
            self.selector.unregister(client)
            with contextlib.suppress(BrokenPipeError):
                client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            client.close()

    def kill(self, client: socket.socket) -> None:
        """The client was killed: its process is, too."""
        self.selector.unregister(client)
        [pid] = [pid for pid, other in self.running.values() if other is client]
        os.kill(pid, signal.SIGKILL)
        client.close()

    def end(self, _: int) -> None:
        for pid, _ in self.running.values():
            os.kill(pid, signal.SIGKILL)
        os._exit(0)


def settled(environment: Mapping[str, str], besides: set[str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(SETTLED) and name not in besides
    }


def can_be_forked(request: Request) -> bool:
    words = [word for word in request["words"] if word != "-u"]
    runs = bool(words) and (words[0] in ("-m", "-c") or not words[0].startswith("-"))
    besides = {"PYTHONPATH"}
    if LAUNCHERS.intersection(words):  # which computes nothing, and says how many threads to use
        besides.add("OMP_NUM_THREADS")
    return runs and settled(request["environment"], besides) == settled(os.environ, besides)


def run(request: Request) -> None:
    """Run as `python WORDS` does."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    unbuffered = request["words"][0] == "-u"
    first, *rest = request["words"][unbuffered:]
    # A new one, since it depends on what the old one was opened on whether it may be sought.
    sys.stdout = sys.__stdout__ = open(1, "w", buffering=1 if os.isatty(1) else -1, closefd=False)  # noqa: SIM115
    sys.stdout.reconfigure(write_through=unbuffered)
    sys.path[0:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    random.seed()
    sys.modules["numpy"].random.seed()
    # The usual one is shared by all forked processes: one that is killed with it would stop the others.
    sys.modules["tqdm"].tqdm.set_lock(threading.RLock())
    if first == "-m":
        sys.argv, sys.path[:0] = rest, [str(Path.cwd())]
        sys.modules.pop(rest[0], None)  # runpy would warn of it
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv, sys.path[:0] = ["-c", *rest[1:]], [""]
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    else:
        sys.argv, sys.path[:0] = [first, *rest], [str(Path(first).resolve().parent)]
        runpy.run_path(first, run_name="__main__")


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Path]:
    """Serve; the folder has the programs that ask for it: python, plainloop, accelerate, torchrun."""
    if not hasattr(os, "pidfd_open"):  # not Linux
        yield Path(sys.executable).parent
        return
    address, client = folder / "socket", folder / "python"
    source = CLIENT.format(
        python=sys.executable, programs=str(Path(sys.executable).parent), address=str(address)
    )
    client.write_text(source, encoding="utf-8")
    client.chmod(0o755)
    for name in ("plainloop", "accelerate", "torchrun"):
        (folder / name).symlink_to(client)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()
        command = [sys.executable, __file__, str(listener.fileno()), str(client)]
        server = subprocess.Popen(
            command, stdin=subprocess.PIPE, pass_fds=[listener.fileno()], cwd=folder
        )
    with server:  # which closes its stdin
        yield folder


def exit_code() -> int:
    """Of the exception that ends this process, which is told as Python does."""
    error = sys.exception()
    if not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
    elif error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    else:
        print(error.code, file=sys.stderr)
    return 1


def main() -> int:
    server = Server(socket.socket(fileno=int(sys.argv[1])))
    # Tests in the background or under nohup have them ignored, and so would each command.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    sys.executable = sys.argv[2]
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()
    try:
        run(server.serve())
    except BaseException:  # noqa: BLE001
        return exit_code()
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    os._exit(main())  # half a second less than to take every module apart
