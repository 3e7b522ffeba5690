"""results.json -> the parts of docs/performance.md between the markers."""

from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from plainloop.errors import UserError
from speed.accuracy import paired_interval
from speed.architectures import EXECUTIONS
from speed.figures import (
    Entry,
    memory_ratio,
    pass_rates,
    pass_share_of_limit,
    rates,
    share_of_limit,
    speed,
    speed_ratio,
    targets,
    unpadded_ratio,
)
from speed.growth import STAGES
from speed.plot import plot_rows
from speed.profiled import KINDS, PROFILED_SIDES, REST
from speed.results import PACKAGES, Results
from speed.rows import EMBEDDED_ROWS, GLUE_ROWS
from speed.sides import AUTO, GROUPED, SIDES, TRAINER, TUTORIAL

MARKERS = {name: (f"<!-- {name} -->\n", f"<!-- /{name} -->") for name in ("figures", "details")}
"""The parts of the page that are written: what most readers want first, and the rest at its end."""


def table(header: list[str], lines: list[list[str]]) -> list[str]:
    """A Markdown table, and an empty line."""
    rows = [header, ["---"] * len(header), *lines]
    return [f"| {' | '.join(cells)} |" for cells in rows] + [""]


def spread(values: list[float], middle: float | None = None, *, digits: int = 1) -> str:
    """The median, or another middle, and from the least to the most of all repeats."""
    middle = median(values) if middle is None else middle
    middle_, least, most = (f"{value:,.{digits}f}" for value in (middle, min(values), max(values)))
    return f"{middle_} ({least} - {most})"


def describe(machine: dict[str, Any]) -> str:
    """The machine, in a sentence."""
    allocator = ", ".join(f"{name}={value}" for name, value in machine["allocator"].items())
    versions = ", ".join(f"{name} {machine[name]}" for name in PACKAGES)
    return (
        f"Measured with {machine['data']} and `--model {machine['model']}` on {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['threads']} threads, "
        f"float32, allocator {allocator or 'as the system has it'}; Python {machine['python']}, "
        f"{versions}.\n"
    )


def describe_targets(results: Results) -> list[str]:
    """What was to be reached, and whether it was."""
    entries = results.entries
    found = targets(
        results.part("train"),
        results.part("architectures"),
        entries.get("prediction"),
        entries.get("startup"),
    )
    return table(
        ["target", "wanted", "measured", "reached"],
        [
            [
                target.what,
                target.wanted + (f", goal {target.goal}" if target.goal else ""),
                f"{target.figure:.2f}",
                "yes" if target.is_reached else "**no**",
            ]
            for target in found
        ],
    )


def describe_rows(rows: dict[str, Entry]) -> list[str]:
    """All rows in one table: plainloop beside the Trainer and the tutorial's loop."""
    lines, others = [], (TRAINER, GROUPED, TUTORIAL)
    ratios = {name: [speed_ratio(row, AUTO, side) for side in others] for name, row in rows.items()}
    for name, row in rows.items():
        task, _, size = name.rpartition("-")
        cells = [f"{speed(row, side):.1f}" for side in (TRAINER, AUTO)]
        cells += [f"{found:.2f}" for found in ratios[name]]
        lines.append([task, size, *cells, f"{memory_ratio(row, AUTO, TRAINER):.2f}"])
    means = [f"{geometric_mean(column):.2f}" for column in zip(*ratios.values(), strict=True)]
    lines.append(["geometric mean", "", "", "", *means, ""])
    header = ["task", "batch size", "Trainer, samples/s", "plainloop, samples/s"]
    header += ["times the Trainer", "times the Trainer with group_by_length"]
    header += ["times the tutorial's loop", "peak memory, times the Trainer's"]
    return table(header, lines)


def tokens_of_a_row(row: Entry, side: str) -> float:
    """The mean over all timed steps."""
    return float(sum(row["sides"][side]["tokens"]) / sum(row["sides"][side]["samples"]))


def describe_row(name: str, row: Entry) -> list[str]:
    """A row on all sides."""
    lines = [
        [
            side,
            spread(rates(row["sides"][side]), speed(row, side)),
            f"{speed(row, side, 'tokens'):,.0f}",
            f"{row['sides'][side]['peak_memory'] / 1e6:,.0f}",
            f"{share_of_limit(row, side):.2f}",
            f"{speed_ratio(row, AUTO, side):.2f}",
            f"{speed_ratio(row, AUTO, side, 'tokens'):.2f}",
            f"{memory_ratio(row, AUTO, side):.2f}",
        ]
        for side in SIDES
        if side in row["sides"]
    ]
    header = ["side", "samples/s", "real tokens/s", "peak memory, MB", "share of the limit"]
    header += [f"plainloop, times its {what}" for what in ("samples/s", "tokens/s", "memory")]
    hashes = row["rows_sha256"]
    return [
        f"**{name}**: {row['repeats']} repeats of {row['steps']} steps of {row['batch_size']} rows.",
        "",
        *table(header, lines),
        f"Plain products: {spread(row['gflops'])} GFLOP/s.",
        f"Real tokens of a row: {tokens_of_a_row(row, AUTO):.1f} in the mean,",
        f"with group_by_length {tokens_of_a_row(row, GROUPED):.1f}.",
        f"SHA-256 of the row numbers: `{hashes[AUTO]}` on all sides but group_by_length,",
        f"which has `{hashes[GROUPED]}`.",
        "",
    ]


def describe_profiles(profiles: dict[str, Entry]) -> list[str]:
    """Milliseconds of a step by kind of operation."""
    columns = [(name, side) for name in profiles for side in PROFILED_SIDES]
    lines = []
    for kind in (*KINDS, REST):
        cells = []
        for name, side in columns:
            kinds = profiles[name][side]["kinds"]
            share = kinds[kind] / sum(kinds.values())
            cells.append(f"{kinds[kind] / profiles[name]['steps'] * 1e3:,.1f} ({share:.0%})")
        lines.append([kind, *cells])
    header = ["ms a step (share)", *(f"{name}, {side}" for name, side in columns)]
    return ["**Where the time goes**", "", *table(header, lines)]


def describe_architectures(architectures: dict[str, Entry]) -> list[str]:
    """Base-size models, padded and by auto."""
    lines = [
        [
            name.rpartition("-")[0],
            f"{entry['parameters'] / 1e6:,.0f}",
            str(entry["batch_size"]),
            *(
                spread([seconds / entry["steps"] for seconds in entry[side]], digits=2)
                for side in EXECUTIONS
            ),
            f"{unpadded_ratio(entry):.2f}",
        ]
        for name, entry in architectures.items()
    ]
    header = ["base size, random weights", "parameters, millions", "batch size"]
    header += [f"{side}, s a step" for side in EXECUTIONS]
    return ["**Architectures**", "", *table([*header, "times padded"], lines)]


def describe_passes(title: str, entry: Entry) -> list[str]:
    """Sides that only read rows."""
    lines = [[side, spread(pass_rates(values))] for side, values in entry.items()]
    return [f"**{title}**", "", *table(["side", "samples/s"], lines)]


def describe_prediction(prediction: Entry) -> list[str]:
    """Prediction and evaluation, and whether the sides came to the same."""
    sides = prediction["sides"]
    lines = [
        [side, spread(pass_rates(values)), f"{pass_share_of_limit(prediction, side):.2f}"]
        for side, values in sides.items()
    ]
    ours, theirs = (sides[side]["outcome"] for side in ("Run.predict", "Trainer.predict"))
    most = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    losses = [sides[f"{side}.evaluate"]["outcome"] for side in ("plainloop", "Trainer")]
    return [
        "**Prediction and evaluation**",
        "",
        *table(["side", "samples/s", "share of the limit"], lines),
        f"Plain products: {spread(prediction['gflops'])} GFLOP/s.",
        f"The probabilities of {len(ours)} rows differ from Trainer.predict's by at most {most:.1e}.",
        f"The losses of the evaluations are {losses[0]:.6f} and the Trainer's {losses[1]:.6f}.",
        "",
    ]


def describe_growth(grown: Entry) -> list[str]:
    """Time and memory by the number of rows."""
    stages = [*STAGES, "first step"]
    header = ["rows", *(f"{stage}, s" for stage in stages), "training, samples/s"]
    header += ["peak memory, MB", "of it not mapped files, in training, MB"]
    lines = [
        [
            f"{int(size):,}",
            *(f"{seen[stage]:.1f}" for stage in stages),
            f"{seen['samples_per_second']:.1f}",
            *(f"{seen[name] / 1e6:,.0f}" for name in ("peak_memory", "own_memory")),
        ]
        for size, seen in grown.items()
    ]
    return ["**From 1,000 to 1,000,000 rows**", "", *table(header, lines)]


def describe_accuracy(seeds: dict[str, Entry]) -> list[str]:
    """The full training's scores beside the Trainer's."""
    names = [name for name in next(iter(seeds.values()))["Trainer"] if name in ("accuracy", "f1")]
    lines = []
    for name in names:
        pairs = [(scores["plainloop"][name], scores["Trainer"][name]) for scores in seeds.values()]
        difference = "one seed has no interval"
        if len(pairs) > 1:
            mean, half = paired_interval([ours - theirs for ours, theirs in pairs])
            difference = f"{mean:+.4f} ({mean - half:+.4f} to {mean + half:+.4f})"
        means = [sum(side) / len(side) for side in zip(*pairs, strict=True)]
        lines.append([name, *(f"{value:.4f}" for value in means), difference])
    header = ["3 epochs", "plainloop", "Trainer", "paired difference, 95 % interval"]
    machines = [scores["machine"] for scores in seeds.values()]
    trained = {f"{machine['cpu']}, {machine['threads']} thread(s)" for machine in machines}
    return [
        f"**Scores, seeds {', '.join(seeds)}**, trained on {' and '.join(sorted(trained))}",
        "",
        *table(header, lines),
    ]


def describe_figures(results: Results, plot: str) -> str:
    """The figures that most readers want, as Markdown.

    Args:
        results: what was measured.
        plot: where the plot is, as the page links it.
    """
    entries, lines = results.entries, []
    if rows := training_rows(results):
        lines += [f"![Samples a second, the Trainer's as 1]({plot})", "", *describe_rows(rows)]
    lines += [describe(results.machine)]
    if architectures := results.part("architectures"):
        lines += describe_architectures(architectures)
    if prediction := entries.get("prediction"):
        lines += describe_prediction(prediction)
    if startup := entries.get("startup"):
        lines += ["**From the command to the first step, demo**", ""]
        kinds = {
            "cold": "nothing tokenized before",
            "warm": "tokenized rows in the cache",
            "imports": "a Python that only imports the libraries",
        }
        seconds = [[words, spread(startup[kind])] for kind, words in kinds.items()]
        lines += table(["", "s"], seconds)
    if growth := entries.get("growth"):
        lines += describe_growth(growth)
    if seeds := results.part("accuracy"):
        lines += describe_accuracy(seeds)
    return "\n".join(lines)


def describe_details(results: Results) -> str:
    """The targets, each row on all sides, and where the time goes, as Markdown."""
    lines = describe_targets(results)
    for name, row in training_rows(results).items():
        lines += describe_row(name, row)
    if profiles := results.part("profile"):
        lines += describe_profiles(profiles)
    if tokenization := results.entries.get("tokenization"):
        lines += describe_passes("Tokenization", tokenization)
    return "\n".join(lines)


def training_rows(results: Results) -> dict[str, Entry]:
    """The measured rows of the training table, in its order."""
    measured = results.part("train")
    names = [row.name for row in (*GLUE_ROWS, *EMBEDDED_ROWS)]
    return {name: measured[name] for name in names if name in measured}


def check_page(page: Path) -> None:
    """Check that a page has the markers.

    Raises:
        UserError: it has not, or is not there.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    missing = [
        f"{begin.strip()} and {end}"
        for begin, end in MARKERS.values()
        if not text.partition(begin)[2].partition(end)[1]
    ]
    if missing:
        raise UserError(
            f"has no lines {' or '.join(missing)}",
            where=f"--page {page}",
            fix="put them where the figures are to be",
        )


def write_page(results: Results, page: Path) -> None:
    """Put everything that was measured between the markers of a page, and the plot beside it."""
    plot = page.with_suffix(".svg")
    if rows := results.part("train"):
        plot_rows(rows, plot)
    bodies = {
        "figures": describe_figures(results, plot.name),
        "details": describe_details(results),
    }
    text = page.read_text(encoding="utf-8")
    for name, (begin, end) in MARKERS.items():
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{bodies[name]}\n{end}{rest.partition(end)[2]}"
    page.write_text(text, encoding="utf-8")
