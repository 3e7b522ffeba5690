"""What plainloop does with each text classifier of Transformers, on tiny random models.

    PYTHONPATH=benchmarks python -m architectures [--only bert llama ...] [--page docs/architectures.md]

Each architecture is checked in turn and noted in --results, so that a run that was stopped goes on
where it was. --again checks again what is noted there.
"""

import argparse
import os
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from architectures.checks import Checks
from architectures.page import BAD, read_results, write_page, write_results
from architectures.tiny import ARCHITECTURES


def main() -> None:
    """Check what is asked for, write the results, and the page if it is asked for."""
    parser = argparse.ArgumentParser(prog="python -m architectures", description=__doc__)
    parser.add_argument("--only", nargs="*", default=ARCHITECTURES, choices=ARCHITECTURES)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--results", type=Path, default=Path("docs/architectures.json"))
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    results = read_results(options.results)
    results["versions"] = {name: version(name) for name in ("transformers", "torch", "accelerate")}
    for kind in options.only:
        if kind in results["architectures"] and not options.again:
            continue
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as work:
            os.environ["HF_DATASETS_CACHE"] = work
            found = results["architectures"][kind] = Checks(kind, Path(work)).run()
        write_results(options.results, results)
        bad = [f"{column}: {text}" for column, text in found.items() if text.startswith(BAD)]
        print(f"{kind:22} {time.perf_counter() - started:6.1f} s  {'; '.join(bad)}", flush=True)
    if options.page:
        write_page(options.page, results)


if __name__ == "__main__":
    main()
