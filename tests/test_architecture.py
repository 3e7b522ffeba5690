"""The house: what may import what, how large a room is, how fast the door opens."""

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "plainloop").rglob("*.py"))
# The order of the data flow: a module imports only from those before it.
FLOW = """
    errors tasks flag_types config ranges lora pretrained scores decision metrics deciding resampled_scores intervals row_predictions report.analysis
    data.contents data.text_files output data.csv_files data.json_files data.arrow_files data.paths data.on_disk data.files
    data.columns data.label_values data.labels data.split data.hub data.glue_labels data.read data.own data.findings data.check
    state run_folder inputs windows data.hashing data.token_cache data.tokenize data.sampling data.batches
    peers distributed memory model
    speed.packing speed.dropout speed.grouping speed.attention speed.layers speed.unpadded speed.embedding speed.execution optim preflight trackers loss stopping generators commit identity checkpoints resume progress
    report.decided evaluation final_evaluation loop fine_tuning classifier prediction_columns prediction_files prediction_inputs predict
    submissions rescoring eject.metric_lines eject.refusals report.plots report.content report.page report.card report.seeds report.seeds_page report.terminal report.comparison hub_upload
    eject.literals eject.imports eject.rows eject.settings eject.context eject.notebook
    eject.script eject.explanations
    cli.flags cli.exits cli.check cli.compare cli.eject cli.evaluate cli.predict cli.report cli.seeds cli.cv cli.app __main__
""".split()  # noqa: SIM905


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT / "src" / "plainloop").with_suffix("").parts)


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_every_module_has_its_place_in_the_flow():
    found = {module_of(path) for path in SOURCES if path.name != "__init__.py"}
    assert found == set(FLOW)


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_a_module_imports_only_from_those_before_it(path):
    module = module_of(path)
    if module not in FLOW:
        return
    ours = {
        name.removeprefix("plainloop.")
        for name in imports_of(path)
        if name.startswith("plainloop.")
    }
    used = {name for name in FLOW if name in ours}
    assert used <= set(FLOW[: FLOW.index(module)])


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_no_module_imports_the_trainer_or_reads_pickle(path):
    names = imports_of(path)
    assert not any("transformers.trainer" in name.lower() for name in names)
    assert "pickle" not in names
    text = path.read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    called = {ast.unparse(call.func) for call in calls}
    assert not called & {"torch.load", "torch.save", "eval", "exec"}
    assert not any(keyword.arg == "shell" for call in calls for keyword in call.keywords)


def test_files_hold_one_concept():
    for path in SOURCES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path
    script = (ROOT / "train.py").read_text(encoding="utf-8").splitlines()
    assert len(script) <= 120


@pytest.mark.parametrize(
    ("command", "seconds"),
    [(["-c", "import plainloop"], 0.3), (["-m", "plainloop", "--help"], 0.5)],
    ids=["import", "help"],
)
def test_what_starts_at_once_imports_nothing_heavy(command, seconds):
    heavy = ("torch", "transformers", "accelerate", "datasets", "sklearn", "pyarrow", "numpy")
    probe = subprocess.run(
        [sys.executable, "-X", "importtime", *command], capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip() for line in probe.stderr.splitlines()}
    assert not imported & set(heavy)
    times = []
    for _ in range(5):
        # The processor's time and not the clock's: other tests run beside this one.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < seconds
