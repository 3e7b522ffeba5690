"""Mutation score of the training's core: small changes of its source that its own tests must notice.

    python tests/mutation.py

300 mutants are drawn, with a seed, from all that mutmut makes of the modules below; each is run
against the tests of its module. Results are kept in build/mutants, so that an interrupted run goes on
where it was; after a change of the source delete that folder. Prints the score and the survivors.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "mutants"
TESTS = {
    "atomic_file.py": ["test_atomic_file.py"],
    "training/optim.py": ["training/test_optim.py"],
    "training/loss.py": ["training/test_loss.py"],
    "run/atomic.py": ["run/test_atomic.py", "run/test_checkpoints.py"],
    "run/checkpoints.py": [
        "run/test_best_model.py",
        "run/test_checkpoints.py",
        "run/test_atomic.py",
    ],
    "training/evaluation.py": ["training/test_evaluation.py"],
    "run/resume.py": ["run/test_resume.py"],
    "training/loop.py": ["training/test_loop.py"],
}
"""Module -> its tests, which are what is measured; the fast ones first."""
GENERATE = """\
from mutmut import __main__ as mutmut
mutmut.set_mutant_under_test("mutant_generation")
mutmut.Path("mutants").mkdir(exist_ok=True)
mutmut.copy_src_dir()
mutmut.copy_also_copy_files()
mutmut.setup_source_paths()
mutmut.create_mutants(1)
"""
"""What `mutmut run` begins with: the names are needed before any test is run."""
CONFIG = """\
[mutmut]
source_paths = src
only_mutate = src/plainloop/{module}
pytest_add_cli_args_test_selection =
    {tests}
pytest_add_cli_args =
    -p
    no:xdist
    -p
    no:cacheprovider
    -m
    not slow and not crash and not distributed and not nightly
also_copy =
    tests
    train.py
    examples
    benchmarks
    docs
track_dependencies = false
use_git_change_detection = false
"""
KILLED = {"killed", "timeout", "segfault", "suspicious"}
BATCH = 10  # mutants of one call, which first runs their tests without a mutant


class Module:
    """A module, its tests, and a copy of the checkout in which mutmut changes it."""

    def __init__(self, name: str) -> None:
        self.name, self.folder = name, FOLDER / name.removesuffix(".py").replace("/", "-")
        self.results = self.folder / "mutants" / "src" / "plainloop" / f"{name}.meta"

    def prepare(self) -> list[str]:
        """Make all mutants; their names."""
        if not self.results.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            for name in ("src", "tests", "examples", "benchmarks", "docs"):
                junk = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(ROOT / name, self.folder / name, ignore=junk)
            for name in ("pyproject.toml", "train.py"):
                shutil.copy(ROOT / name, self.folder / name)
            tests = "\n    ".join(f"tests/{test}" for test in TESTS[self.name])
            config = CONFIG.format(module=self.name, tests=tests)
            (self.folder / "setup.cfg").write_text(config, encoding="utf-8")
            self.python("-c", GENERATE)
        return sorted(self.codes())

    def codes(self) -> dict[str, int | None]:
        """The exit code of the tests with each mutant; None for one that was not run."""
        content: dict = json.loads(self.results.read_text(encoding="utf-8"))
        return content["exit_code_by_key"]

    def run(self, mutants: list[str]) -> None:
        """Run the tests with each of these mutants, one after the other."""
        printed = self.python("-m", "mutmut", "run", "--max-children", "1", *mutants)
        if all(self.codes()[mutant] is None for mutant in mutants):
            sys.exit(f"{self.name}: mutmut has run none of {mutants}:\n{printed[-3000:]}")

    def statuses(self) -> dict[str, str]:
        """The word for the result of each mutant, such as killed or survived."""
        lines = self.python("-m", "mutmut", "results", "--all", "true").splitlines()
        return dict(line.strip().split(": ", 1) for line in lines if "__mutmut_" in line)

    def python(self, *words: str) -> str:
        command = [sys.executable, *words]
        finished = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False
        )
        return finished.stdout + finished.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=300)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--minutes", type=float, help="begin no further mutants after so long")
    options = parser.parse_args()
    started = time.monotonic()
    modules = {name: Module(name) for name in TESTS}
    made = [(name, mutant) for name, module in modules.items() for mutant in module.prepare()]
    drawn = random.Random(options.seed).sample(made, min(options.mutants, len(made)))
    print(f"{len(made)} mutants of {len(modules)} modules, {len(drawn)} drawn", flush=True)
    for name, module in modules.items():
        codes = module.codes()
        left = [mutant for of, mutant in drawn if of == name and codes[mutant] is None]
        for begin in range(0, len(left), BATCH):
            if options.minutes and time.monotonic() - started > 60 * options.minutes:
                break
            module.run(left[begin : begin + BATCH])
            done = min(begin + BATCH, len(left))
            print(f"{name}: {done} of {len(left)}, {time.monotonic() - started:.0f} s", flush=True)
    counts: Counter[str] = Counter()
    table: dict[str, Counter[str]] = {name: Counter() for name in modules}
    statuses = {name: module.statuses() for name, module in modules.items()}
    codes = {name: module.codes() for name, module in modules.items()}
    for name, mutant in drawn:
        if codes[name][mutant] is None:
            continue
        result = "killed" if statuses[name][mutant] in KILLED else "survived"
        counts[result] += 1
        table[name][result] += 1
        if result == "survived":
            print(f"SURVIVED: {name}: {mutant} ({statuses[name][mutant]})")
    for name, row in table.items():
        print(f"{name:<24} {row['killed']:>4} of {row.total():>4} killed")
    total = counts.total()
    score = 100 * counts["killed"] / total if total else 0.0
    print(f"seed {options.seed}: {counts['killed']} of {total} killed, {score:.1f} %; ", end="")
    print(f"{len(drawn) - total} of {len(drawn)} not run yet")


if __name__ == "__main__":
    main()
