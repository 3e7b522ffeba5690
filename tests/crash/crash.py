"""Kill training runs with SIGKILL, resume them, and compare the bits with a run never stopped.

    python tests/crash/crash.py --kills 30 --seed 0

A kill falls into a phase of the run, by a failpoint in the process itself (failpoints.py) or from
outside. A third of them fall on runs of 2 processes. Most runs are forked from this process, which
has imported torch; every tenth is a command of its own, with `accelerate launch` for 2 processes.
Exit 1 where a resumed run does not end, or ends with other bits; those without an error are silent.
"""

import argparse
import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "1"}
sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]

import conftest  # noqa: E402  its folder is not on the path before
import failpoints  # noqa: E402
import preloaded  # noqa: E402
from accelerate.state import AcceleratorState  # noqa: E402
from tqdm import tqdm  # noqa: E402

# The usual one is shared by all forked processes: one that is killed with it would stop the others.
tqdm.set_lock(threading.RLock())

TIME_FIELDS = {"samples_per_second"}
SETTINGS = {
    "task": "demo",
    "dropout": 0.1,
    "learning_rate": 1e-3,
    "num_train_epochs": 6,
    "gradient_accumulation_steps": 2,
    "logging_steps": 3,
    "eval_strategy": "steps",
    "eval_steps": 4,
    "save_strategy": "steps",
    "save_steps": 5,
    "load_best_model_at_end": True,
}
# Half of the kills fall inside a save: those in write and rename, and two in the evaluation.
PHASES = [
    "forward", "forward", "rename", "backward", "write", "write", "write", "rename",
    "backward", "evaluation", "optimizer", "optimizer", "write", "evaluation", "rename",
]  # fmt: skip
CHAIN = [
    "optimizer", "outside", "write", "evaluation", "rename",
    "outside", "record", "backward", "outside", "finish",
]  # fmt: skip
CHAINED = "chain of 10"
TIMEOUT = 300  # a restart by a launcher imports torch five times: minutes on a busy machine


@dataclass
class Row:
    """Kills of one phase, and what became of the runs."""

    counts: Counter = field(default_factory=Counter)
    columns = (
        "kills", "1 process", "2 processes", "outside", "inside save",
        "resumed", "equal", "silent differences",
    )  # fmt: skip

    def __str__(self) -> str:
        return " | ".join(f"{self.counts[name]:>{len(name)}}" for name in self.columns)


class Run:
    """The processes of one training run, as a process group of their own."""

    def __init__(
        self,
        words: list[str],
        run: Path,
        processes: int,
        *,
        fork: bool,
        max_restarts: int = 0,
        **crash: str,
    ):
        self.run, self.fork = run, fork
        log = log_of(run)
        environment = {key: str(value) for key, value in crash.items()}
        if fork:
            self.pids: list[int] = []
            port = str(free_port())
            for rank in range(processes):
                ranked = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes}
                ranked |= {"LOCAL_WORLD_SIZE": processes}
                ranked |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
                more = {key: str(value) for key, value in ranked.items()} if processes > 1 else {}
                self.pids.append(fork_command(words, log, self.pids, environment | more))
            return
        launch = [str(Path(sys.executable).with_name("accelerate")), "launch", "--multi_gpu"]
        launch += ["--num_processes", str(processes), "--num_cpu_threads_per_process", "1"]
        launch += ["--mixed_precision", "no", "--num_machines", "1", "--dynamo_backend", "no"]
        launch += ["--main_process_port", str(free_port())]
        if max_restarts:
            launch += ["--max_restarts", str(max_restarts), "--rdzv_backend", "c10d"]
            # Else those started again read the addresses of those before them from its store.
            environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [*(launch if processes > 1 else [sys.executable]), failpoints.__file__, *words],
                env=os.environ | environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.pids = [self.process.pid]

    def wait(self) -> list[int]:
        """The exit codes; when one process has failed, the others have a while to end, too.

        Two seconds after a kill, as they wait for what does not come; else what a busy machine needs.
        """
        codes: dict[int, int] = {}
        end = time.monotonic() + TIMEOUT
        while len(codes) < len(self.pids):
            for pid in self.pids:
                if pid not in codes:
                    done, status = os.waitpid(pid, os.WNOHANG)
                    if done:
                        codes[pid] = os.waitstatus_to_exitcode(status)
                        if codes[pid]:
                            more = 2 if codes[pid] == -signal.SIGKILL else 30
                            end = min(end, time.monotonic() + more)
            if time.monotonic() > end:
                self.kill()
            time.sleep(0.01)
        self.kill()
        while not self.fork and processes_with(str(self.run)):
            self.kill()
            time.sleep(0.01)
        return [codes[pid] for pid in self.pids]

    def is_running(self) -> bool:
        return os.waitid(os.P_PID, self.pids[0], os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def kill(self) -> None:
        groups = {self.pids[0]}
        if not self.fork:  # a launcher's ranks are groups of their own
            groups |= set(processes_with(str(self.run)))
        for group in groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def fork_command(words: list[str], log: Path, group: list[int], environment: dict) -> int:
    """Run `plainloop WORDS` in a child of this process; torch is imported already."""
    pid = os.fork()
    if pid:
        os.setpgid(pid, group[0] if group else pid)
        return pid
    code = 70
    try:
        os.setpgid(0, group[0] if group else 0)
        with log.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        # Those of pytest do not write to 1 and 2.
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        os.environ.update(environment)
        AcceleratorState._reset_state(reset_partial_state=True)  # of a run in the parent itself
        sys.argv = ["plainloop", *words]
        failpoints.install()
        from plainloop.__main__ import main

        # The report's plots take longer than the training, and are not compared.
        sys.modules["plainloop.cli.app"].write_pages = lambda folder: None
        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except Exception:  # noqa: BLE001  the child must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def processes_with(word: str) -> list[int]:
    """The processes that have it in their command line, but for this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # one that has just ended
            if (
                word.encode() in path.read_bytes().split(b"\0")
                and int(path.parent.name) != os.getpid()
            ):
                found.append(int(path.parent.name))
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


EXECUTIONS = ("unpadded", "padded")


class Bench:
    """Starts runs with the tiny model, and keeps what those came to that never stopped."""

    def __init__(self, folder: Path, **settings) -> None:
        self.folder = folder
        model, data = make_inputs(folder)
        self.words = ["train", "--model", str(model), "--data-dir", str(data), *flags_of(settings)]
        self.references: dict[tuple, dict] = {}
        for name in (*preloaded.LIBRARIES, "plainloop.training.fine_tune"):
            importlib.import_module(name)  # so that a forked child need not

    def start(self, run: Path, processes: int, *more: str, fork: bool, **crash) -> Run:
        words = [*self.words, *more, "--output-dir", str(run)]
        return Run(words, run, processes, fork=fork, **crash)

    def reference(self, processes: int, *more: str) -> dict:
        """The outcome of a run that never stopped."""
        if (processes, *more) not in self.references:
            run = self.folder / f"straight-{len(self.references)}"
            started = time.monotonic()
            codes = self.start(run, processes, *more, fork=True).wait()
            assert not any(codes), f"{codes}: {log_of(run).read_text()[-3000:]}"
            self.references[processes, *more] = outcome(run)
            steps = self.references[processes, *more]["steps"]
            print(f"never stopped: {processes} processes, {steps} steps, {seconds(started)}")
        return self.references[processes, *more]


def flags_of(settings: dict) -> list[str]:
    """Settings as they stand on a command line."""
    words = []
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, str(value)]
    return words


class Harness:
    """Kills, resumes and compares."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.draw = folder, random.Random(seed)
        self.rows: dict[str, Row] = {}
        self.used: Counter = Counter()
        self.failures: list[str] = []
        self.bench = Bench(folder, **SETTINGS)
        self.flags: dict[Path, list[str]] = {}
        for processes in (1, 2):
            for execution in EXECUTIONS:
                self.bench.reference(processes, "--execution", execution)

    def start(self, run: Path, processes: int, *, fork: bool, resume: bool = False, **crash) -> Run:
        more = [*self.flags[run], *(["--resume"] if resume else [])]
        return self.bench.start(run, processes, *more, fork=fork, **crash)

    def reference(self, run: Path, processes: int) -> dict:
        return self.bench.reference(processes, *self.flags[run])

    def kill_once(self, row: str, run: Path, phase: str, processes: int, *, fork: bool, **at):
        """Start or resume a run, kill it in a phase, and count that; whether there is a run."""
        self.used[phase] += 1
        outside = phase == "outside" or (phase == "write" and self.used[phase] % 3 == 0)
        for attempt in range(5):
            kill = self.from_outside if outside else self.at_failpoint
            fell = kill(run, phase, processes, fork=fork, attempt=attempt, **at)
            if fell:
                break
            if not at.get("resume"):
                shutil.rmtree(run)
        else:
            self.failures.append(f"{run.name}: five times not killed in {phase}: {at}")
            return run.exists()
        self.rows.setdefault(row, Row()).counts.update(
            {
                "kills": 1,
                "1 process" if processes == 1 else "2 processes": 1,
                "outside": outside,
                "inside save": fell["inside_save"],
            }
        )
        return True

    def at_failpoint(self, run, phase, processes, *, fork, attempt, step, resume=False):
        places = [
            (place, part) for place, parts in failpoints.PLACES[phase].items() for part in parts
        ]
        place, part = places[(self.used[phase] - 1 + attempt) % len(places)]
        count = self.draw.randint(1, 3) if attempt < 2 else 1
        of_rank_0 = phase in ("rename", "record", "finish") or "checkpoints" in place
        of_rank_0 |= phase == "write" and "generators" not in place
        rank = 0 if of_rank_0 or processes == 1 else self.draw.randrange(2)
        if phase in ("record", "finish") or "write_text" in place:
            count = 1
        fell = run.with_suffix(".fell")
        fell.unlink(missing_ok=True)
        at = f"{phase}/{place}/{part}/{step}/{count}"
        with log_of(run).open("a") as log:
            log.write(f"\n--- kill at {at} rank {rank}\n")
        codes = self.start(
            run, processes, fork=fork, resume=resume,
            CRASH_AT=at, CRASH_RANK=str(rank), CRASH_LOG=str(fell),
        ).wait()  # fmt: skip
        if not fell.exists():
            print(f"  {run.name}: did not fall: {at}, rank {rank}, exit codes {codes}")
            return None
        return json.loads(fell.read_text())

    def from_outside(self, run, phase, processes, *, fork, attempt, step, resume=False):
        """Kill all processes at a random time; for `write` while a temporary folder is there."""
        crash = {"CRASH_SLOW": "0.05"} if phase == "write" else {"CRASH_SLOW": "0.005"}
        before = history_length(run)
        started = self.start(run, processes, fork=fork, resume=resume, **crash)
        temporary = run / "checkpoints"
        while started.is_running() and history_length(run) in (0, before):
            time.sleep(0.002)
        time.sleep(self.draw.uniform(0, 0.6 / (attempt + 1)))
        while phase == "write" and started.is_running() and not [*temporary.glob(".tmp-step-*")]:
            time.sleep(0.001)
        if phase == "write":
            time.sleep(self.draw.uniform(0, 0.2))
        was_running = started.is_running()
        started.kill()
        started.wait()
        inside = bool([*temporary.glob(".tmp-step-*")])
        return {"inside_save": inside} if was_running and (inside or phase != "write") else None

    def finish(self, run: Path, phase: str, processes: int, *, fork: bool) -> None:
        """Resume a run to its end and compare."""
        row = self.rows[phase]
        codes = self.start(run, processes, fork=fork, resume=True).wait()
        if any(codes):
            tail = log_of(run).read_text(errors="replace")[-1500:]
            self.failures.append(
                f"{run.name}: {phase}: exit codes {codes} of the resumed run: {tail}"
            )
            return
        row.counts["resumed"] += 1
        differences = compare(outcome(run), self.reference(run, processes))
        row.counts["silent differences" if differences else "equal"] += 1
        if differences:
            self.failures.append(f"{run.name}: {phase}: other {', '.join(differences)}")
        else:
            shutil.rmtree(run)

    def kills(self, number: int) -> None:
        """Kill, resume and compare so many runs, each once."""
        for index in range(number):
            started = time.monotonic()
            phase = PHASES[index % len(PHASES)]
            processes = 2 if (index + index // len(PHASES)) % 3 == 0 else 1
            run = self.folder / f"kill-{index}"
            execution = EXECUTIONS[(index + index // len(PHASES)) % 2]
            self.flags[run] = ["--execution", execution]
            step = self.draw.randint(1, self.reference(run, processes)["steps"] - 7)
            fork = index % 10 != 9
            if self.kill_once(phase, run, phase, processes, fork=fork, step=step):
                self.finish(run, phase, processes, fork=fork)
            kind = f"{processes} processes, {execution}"
            print(f"{run.name}: {phase}, {kind}, {seconds(started)}", flush=True)

    def chain(self) -> None:
        """One run, killed ten times."""
        run, started = self.folder / "chain", time.monotonic()
        self.flags[run] = ["--execution", "unpadded"]
        last = self.reference(run, 1)["steps"]
        for index, phase in enumerate(CHAIN):
            step = last if phase == "finish" else 1 + index * (last - 12) // len(CHAIN)
            resume = index > 0
            self.kill_once(CHAINED, run, phase, 1, fork=True, step=step, resume=resume)
        self.finish(run, CHAINED, 1, fork=True)
        print(f"chain: {seconds(started)}")

    def table(self) -> str:
        total = Row(sum((row.counts for row in self.rows.values()), Counter()))
        lines = [f"{'phase':<12} | {' | '.join(Row.columns)}"]
        rows = {**self.rows, "all": total}
        return "\n".join(lines + [f"{name:<12} | {row}" for name, row in rows.items()])


def make_inputs(folder: Path) -> tuple[Path, Path]:
    """The tiny model, and 171 training rows: with batches of 8 and 2 of them a step, both ragged."""

    class Factory:
        def mktemp(self, name: str) -> Path:
            (folder / name).mkdir()
            return folder / name

    model = conftest.tiny_model.__wrapped__(Factory())
    data = Factory().mktemp("data")
    conftest.write_pairs(data / "train.tsv", 171, seed=1)
    conftest.write_pairs(data / "validation.tsv", 21, seed=2)
    return model, data


def outcome(run: Path) -> dict:
    """All that must be equal, by name."""
    from plainloop.run.atomic import find_corruption, hash_file
    from plainloop.run.checkpoints import list_checkpoints

    metrics = json.loads((run / "metrics.json").read_text())
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    kept = list_checkpoints(run / "checkpoints")
    last = kept[-1]
    state = json.loads((last / "state.json").read_text())
    state["state"]["history"] = without_times(state["state"]["history"])
    state["state"].pop("rows_since_log")
    settings = state["identity"]["settings"]
    settings["model"] = settings["model"][-1]  # before it, its place as seen from the run
    return {
        "steps": metrics["steps"],
        "final weights": hash_file(run / "model.safetensors"),
        **{f"last {path.name}": hash_file(path) for path in sorted(last.glob("*.safetensors"))},
        "last state": state,
        "best model": {
            path.name: hash_file(path / "model.safetensors")
            for path in list_checkpoints(run / "best")
            if not find_corruption(path)
        },
        "history": without_times(history),
        **{name: metrics[name] for name in ("evaluations", "best", "saved")},
        "checkpoints": [path.name for path in kept],
        "damaged": [path.name for path in kept if find_corruption(path)],
        "left over": sorted(path.name for path in run.rglob(".tmp-*")),
    }


def without_times(history: list[dict]) -> list[dict]:
    return [{k: v for k, v in record.items() if k not in TIME_FIELDS} for record in history]


def compare(ours: dict, theirs: dict) -> list[str]:
    """The names of what differs."""
    return sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name))


def history_length(run: Path) -> int:
    try:
        return (run / "history.jsonl").stat().st_size
    except FileNotFoundError:
        return 0


def log_of(run: Path) -> Path:
    return run.with_suffix(".log")


def seconds(started: float) -> str:
    return f"{time.monotonic() - started:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a new folder for the runs, kept")
    options = parser.parse_args()
    started = time.monotonic()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="crash-"))
    folder.mkdir(exist_ok=True)
    harness = Harness(folder, options.seed)
    harness.kills(options.kills)
    harness.chain()
    print(harness.table())
    print(f"seed {options.seed}, {seconds(started)}")
    for failure in harness.failures:
        print(f"FAILED {failure}")
    if harness.failures:
        print(f"the runs are in {folder}")
        sys.exit(1)
    if not options.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
