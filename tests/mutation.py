"""Mutation score of the training's core: small changes of its source that its own tests must notice.

    python tests/mutation.py

300 mutants are drawn, with a seed, from all that mutmut makes of the modules below; each is run
against the tests of its module. Results are kept in build/mutants, so that an interrupted run goes on
where it was; after a change of the source delete that folder. Prints the score and the survivors.
"""

import argparse
import json
import os
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
    "run/resume.py": ["run/test_disk_space.py", "run/test_resume.py"],
    "training/loop.py": ["training/test_loop.py", "run/test_resume.py"],
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
"""What `mutmut run` begins with: mutmut only makes the mutants."""
PYTEST = [
    *("-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"),
    *("-k", "not fits_on_one_screen"),  # mutmut writes a line more
    *("-m", "not slow and not crash and not distributed and not nightly"),
]
CONFIG = """\
[mutmut]
source_paths = src
only_mutate = src/plainloop/{module}
also_copy =
    tests
    train.py
    examples
    benchmarks
    docs
track_dependencies = false
use_git_change_detection = false
"""
CLEAN = "no mutant"


class Module:
    """A module, its tests, and a copy of the checkout in which mutmut has put all of its mutants."""

    def __init__(self, name: str) -> None:
        self.name, self.folder = name, FOLDER / name.removesuffix(".py").replace("/", "-")
        self.results_file = self.folder / "results.json"

    def prepare(self) -> list[str]:
        """Make all mutants; their names."""
        made = self.folder / "mutants" / "src" / "plainloop" / f"{self.name}.meta"
        if not made.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            for name in ("src", "tests", "examples", "benchmarks", "docs"):
                junk = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(ROOT / name, self.folder / name, ignore=junk)
            for name in ("pyproject.toml", "train.py"):
                shutil.copy(ROOT / name, self.folder / name)
            (self.folder / "setup.cfg").write_text(CONFIG.format(module=self.name), "utf-8")
            subprocess.run([sys.executable, "-c", GENERATE], cwd=self.folder, check=True)
        content: dict = json.loads(made.read_text(encoding="utf-8"))
        return sorted(content["exit_code_by_key"])

    def results(self) -> dict[str, str]:
        """What became of each mutant that was run: killed, hangs or survived."""
        if not self.results_file.exists():
            return {}
        found: dict[str, str] = json.loads(self.results_file.read_text(encoding="utf-8"))
        return found

    def run(self, mutant: str) -> str:
        """Run the tests with a mutant, in a process of their own: one forked from another can hang."""
        results = self.results()
        if CLEAN not in results:
            started = time.monotonic()
            assert self._test(CLEAN, None) == "survived", f"{self.name}: its tests fail as it is"
            results[CLEAN] = str(time.monotonic() - started)
        result = self._test(mutant, 60 + 5 * float(results[CLEAN]))
        results = self.results() | {
            CLEAN: results[CLEAN],
            mutant: result,
        }  # another may have written
        self.results_file.write_text(json.dumps(results, indent=1), encoding="utf-8")
        return result

    def _test(self, mutant: str, seconds: float | None) -> str:
        folder = self.folder / "mutants"
        environment = {"MUTANT_UNDER_TEST": mutant, "PYTHONPATH": str(folder / "src")}
        tests = [f"tests/{name}" for name in TESTS[self.name]]
        try:
            finished = subprocess.run(
                [sys.executable, "-m", "pytest", *PYTEST, *tests],
                cwd=folder, env=os.environ | environment, timeout=seconds, capture_output=True,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return "hangs"
        return "killed" if finished.returncode else "survived"


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
    for number, (name, mutant) in enumerate(sorted(drawn), 1):
        if options.minutes and time.monotonic() - started > 60 * options.minutes:
            break
        if mutant not in modules[name].results():
            result = modules[name].run(mutant)
            passed = time.monotonic() - started
            print(f"{number} of {len(drawn)}, {passed:.0f} s: {mutant} {result}", flush=True)
    table: dict[str, Counter[str]] = {name: Counter() for name in modules}
    for name, mutant in drawn:
        result = modules[name].results().get(mutant, "not run yet")
        table[name][result] += 1
        if result == "survived":
            print(f"SURVIVED: {name}: {mutant}")
    total: Counter[str] = sum(table.values(), Counter())
    for name, row in [*table.items(), ("all", total)]:
        run = row.total() - row["not run yet"]
        print(
            f"{name:<24} {run - row['survived']:>4} of {run:>4} killed, {row['hangs']} of them hang"
        )
    run = total.total() - total["not run yet"]
    score = 100 * (run - total["survived"]) / run if run else 0.0
    print(f"seed {options.seed}: {score:.1f} % killed; {total['not run yet']} not run yet")


if __name__ == "__main__":
    main()
