"""Record what the pages show of runs: `make pictures`, about 8 minutes on an idle machine.

    python docs/record.py                               # demo, seeds, readme, speed: pictures and numbers
    python docs/record.py --parts tutorial --glue GLUE  # the tutorial's outputs: 3 epochs, 12 minutes

Pictures are written into docs/images, numbers into docs/recorded, and from there into the pages. The
pictures of reports need Chromium: apt-get install chromium. A run is recorded with the machine that it
ran on; nothing else should run meanwhile.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import capture
import quote

DOCS = Path(__file__).parent
IMAGES, RECORDED = DOCS / "images", DOCS / "recorded"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PLAINLOOP = str(Path(sys.executable).parent / "plainloop")
SEEDS = ("1", "2", "3")
HIDE_BELOW = "one => { while (one.nextElementSibling) one.nextElementSibling.remove(); }"


def describe_machine() -> dict[str, Any]:
    """What a recorded run ran on."""
    import torch

    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    threads = torch.get_num_threads()
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"cpu": names[0], "cores": len(names), "threads": threads, **versions}


def save(name: str, record: dict[str, Any]) -> None:
    """Write docs/recorded/NAME.json."""
    RECORDED.mkdir(exist_ok=True)
    text = json.dumps({**record, "machine": describe_machine()}, indent=1, ensure_ascii=False)
    (RECORDED / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def read_scores(run: Path) -> dict[str, Any]:
    """The scores of a run's validation rows, their intervals, and how many steps it took."""
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    of = metrics["analysis"]["validation"]
    return {
        "steps": metrics["steps"],
        "rows": of["rows"],
        "scores": {name: score for name, score in of["scores"].items() if "/" not in name},
        "intervals": of["intervals"]["scores"],
        "baselines": metrics["data"]["baselines"],
    }


def record_demo(arguments: argparse.Namespace) -> None:
    """The demo in a terminal, and its report: in the light, in the dark, on a phone."""
    run = Path("runs/demo")
    started = time.monotonic()
    command = ["plainloop", "demo"]
    if arguments.flags:
        command = ["plainloop", "train", "--task", "demo", "--model", "demo"]
        command += ["--output-dir", str(run), *arguments.flags]
    shown = capture.picture(command, IMAGES / "demo.svg")
    seconds = time.monotonic() - started
    record = {"command": " ".join(command), "seconds": seconds, "minutes": seconds / 60}
    save("demo", {**record, **read_scores(run), "terminal": shown})
    page = run / "report.html"
    draw_page(page, "report.png", until="#training")
    draw_page(page, "report-dark.png", at="#mistakes", dark=True)
    draw_page(page, "report-phone.png", width=390, until="#metrics")


def record_seeds(arguments: argparse.Namespace) -> None:
    """The demo's task with three seeds, and the report of the seeds."""
    command = ["train", "--task", "demo", "--model", "demo", "--epochs", "2"]
    command += ["--output-dir", "runs/seeds", *arguments.flags]
    subprocess.run([PLAINLOOP, *command, "--seeds", *SEEDS], check=True)  # noqa: S603
    summary = json.loads(Path("runs/seeds/summary.json").read_text(encoding="utf-8"))
    kept = {name: summary[name] for name in ("rows", "seeds", "scores")}
    sys.path.insert(0, str(DOCS.parent / "tests"))
    from bag_of_words import best_accuracy

    kept["bag_of_words"] = best_accuracy()
    save("seeds", {"command": " ".join(["plainloop", *command, "--seeds", *SEEDS]), **kept})
    draw_page(Path("runs/seeds/report.html"), "seeds.png", until="#curves")


def record_readme(arguments: argparse.Namespace) -> None:
    """What the README's commands print: the train command's data and evaluations, the first predictions."""
    for name in ("reviews.csv", "new.csv"):
        shutil.copy(DOCS.parent / "src" / "plainloop" / "data" / "samples" / name, name)
    train = ["train", "reviews.csv", "--model", "demo", *arguments.flags]
    predict = ["predict", "runs/reviews", "new.csv"]
    printed = []
    for words in (train, predict):
        command = [PLAINLOOP, *words]
        printed.append(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()  # noqa: S603
        )
    shown = ("Data", "Found", "  epoch", "Saved", "Report")
    outputs = {
        "train": "\n".join(line for line in printed[0] if line.startswith(shown)),
        "predict": "\n".join(printed[1][:4]),
    }
    save("readme", {"command": " ".join(["plainloop", *train]), "outputs": outputs})


def record_speed(_arguments: argparse.Namespace) -> None:
    """The chart and the figures of performance.json."""
    sys.path.insert(0, str(DOCS.parent / "benchmarks"))
    from speed.page import write_page
    from speed.results import Results

    file = DOCS / "performance.json"
    machine = json.loads(file.read_text(encoding="utf-8"))["machine"]
    write_page(Results(file, machine), DOCS / "performance.md")


def record_tutorial(arguments: argparse.Namespace) -> None:
    """What the tutorial's blocks print, one after the other, with the real MRPC; in Korean they are the same."""
    if arguments.glue is None:
        sys.exit("the tutorial's outputs are those of MRPC: --glue FOLDER")
    Path("GLUE").symlink_to(arguments.glue.resolve())
    names: dict[str, Any] = {"__name__": "__main__"}
    outputs = []
    script = quote.UNMARKED.findall(
        (DOCS / "tutorial.md").read_text(encoding="utf-8").partition("<!-- difference -->")[0]
    )
    for block in script:
        printed, bar = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(bar):
            exec(block, names)  # noqa: S102 - the page's own
        last = [line for line in bar.getvalue().split("\r") if line.startswith("100%")][-1:]
        steps = last if "progress_bar" in block else []
        outputs.append(
            "\n".join([*filter(None, [printed.getvalue().rstrip()]), *map(str.rstrip, steps)])
        )
    save("tutorial", {"outputs": outputs})


def draw_page(
    page: Path,
    name: str,
    *,
    width: int = 1000,
    dark: bool = False,
    until: str | None = None,
    at: str | None = None,
) -> None:
    """A picture of a report in Chromium.

    Args:
        page: the report.
        name: of the file in docs/images.
        width: of the window in CSS pixels.
        dark: whether the reader prefers dark pages.
        until: a section; the picture ends with it.
        at: a section; the picture is the window that begins with it.
    """
    if CHROMIUM is None:
        sys.exit("pictures of reports need Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = chromium.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        opened.goto(page.resolve().as_uri())
        if until is not None:
            opened.eval_on_selector(until, HIDE_BELOW)
        if at is not None:
            opened.eval_on_selector(at, "one => one.scrollIntoView()")
        opened.screenshot(path=IMAGES / name, full_page=at is None)
        chromium.close()
    from PIL import Image  # of matplotlib

    Image.open(IMAGES / name).convert("RGB").quantize().save(IMAGES / name, optimize=True)


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "demo": record_demo,
    "seeds": record_seeds,
    "readme": record_readme,
    "speed": record_speed,
    "tutorial": record_tutorial,
}


def main() -> None:
    """Record the parts that are asked for, each in an empty folder, then renew the pages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=["demo", "seeds", "readme", "speed"]
    )
    parser.add_argument("--glue", type=Path, help="GLUE's folder, for the tutorial")
    parser.add_argument(
        "--flags", type=shlex.split, default=[], help="of shorter runs, to try this"
    )
    arguments = parser.parse_args()
    if arguments.glue:
        arguments.glue = arguments.glue.resolve()
    for part in arguments.parts:
        print(f"{part}: {PARTS[part].__doc__}", flush=True)
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            PARTS[part](arguments)
    quote.renew()


if __name__ == "__main__":
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    main()
