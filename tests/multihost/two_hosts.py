"""One run on two hosts: network namespaces with a cable between them, each with a process of its own.

    sudo python tests/multihost/two_hosts.py          # Linux, iproute2

The losses and gradient norms are compared with those of one process; the hosts are taken down at the
end, whatever happens. Exit 1 where the numbers differ.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SCRIPT = str(ROOT / "train.py")
ADDRESSES = ("10.203.0.1", "10.203.0.2")
INTERFACE = "cable"
TOLERANCE = 1e-5
TIMEOUT = 180


def ip(*words: str) -> None:
    """Run iproute2's command."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30)


@contextmanager
def two_hosts() -> Iterator[list[str]]:
    """Two network namespaces that reach each other and nothing else; their names.

    Raises:
        OSError, subprocess.CalledProcessError: they may not be made here.
    """
    names = [f"plainloop-{os.getpid()}-{number}" for number in range(2)]
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", names[0], "link", "add", INTERFACE, "type", "veth",
           "peer", "name", INTERFACE, "netns", names[1])  # fmt: skip
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", INTERFACE)
            ip("-n", name, "link", "set", INTERFACE, "up")
        yield names
    finally:
        for name in names:  # the cable goes with them
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def train_on_two_hosts(hosts: list[str], flags: list[str], run: Path) -> str:
    """Launch a process on each host; what both printed.

    Raises:
        RuntimeError: one has failed.
    """
    started = []
    for rank, host in enumerate(hosts):
        launch = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
        launch += ["--multi_gpu", "--num_machines", "2", "--num_processes", "2"]
        launch += ["--machine_rank", str(rank), "--main_process_ip", ADDRESSES[0]]
        launch += ["--main_process_port", "29500", "--num_cpu_threads_per_process", "1"]
        log = run.with_name(f"host-{rank}.log")
        with log.open("wb") as file:
            started.append(
                subprocess.Popen(
                    [
                        "ip",
                        "netns",
                        "exec",
                        host,
                        *launch,
                        SCRIPT,
                        *flags,
                        "--output-dir",
                        str(run),
                    ],
                    env={**os.environ, "GLOO_SOCKET_IFNAME": INTERFACE, "HF_HUB_OFFLINE": "1"},
                    stdout=file,
                    stderr=file,
                )
            )
    try:
        codes = [process.wait(timeout=TIMEOUT) for process in started]
    finally:
        for process in started:
            process.kill()
    printed = "".join(run.with_name(f"host-{rank}.log").read_text() for rank in range(2))
    if any(codes):
        raise RuntimeError(f"exit codes {codes}\n{printed}")
    return printed


def train_on_one(flags: list[str], run: Path) -> None:
    """The same on this host, in one process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [sys.executable, SCRIPT, *flags, "--output-dir", str(run)],
        env=environment, check=True, capture_output=True, timeout=TIMEOUT,
    )  # fmt: skip


def largest_difference(first: Path, second: Path) -> float:
    """The largest relative difference of a loss or gradient norm; infinite for other steps."""
    ours, theirs = (
        [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
        for run in (first, second)
    )
    if [record["step"] for record in ours] != [record["step"] for record in theirs] or not ours:
        return float("inf")
    return max(
        abs(one[name] - other[name]) / abs(one[name])
        for one, other in zip(ours, theirs, strict=True)
        for name in ("loss", "grad_norm")
    )


def compare(folder: Path, model: str, more: list[str]) -> tuple[float, str]:
    """Train both ways; the largest difference, and what the two hosts printed."""
    flags = ["--task", "demo", "--model", model, "--dropout", "0", "--max-steps", "6", *more]
    flags += ["--learning-rate", "1e-3", "--lr-scheduler-type", "constant"]
    flags += ["--max-grad-norm", "0.1", "--adam-epsilon", "1e-3", "--logging-steps", "1"]
    with two_hosts() as hosts:
        printed = train_on_two_hosts(hosts, [*flags, "--batch-size", "4"], folder / "two")
    train_on_one([*flags, "--batch-size", "8"], folder / "one")
    return largest_difference(folder / "one", folder / "two"), printed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    arguments, more = parser.parse_known_args()
    folder = Path(tempfile.mkdtemp(prefix="two-hosts-"))
    try:
        difference, printed = compare(folder, arguments.model, more)
    finally:
        shutil.rmtree(folder)
    print(printed)
    print(f"largest relative difference to one process: {difference:.1e}")
    sys.exit(difference > TOLERANCE)
