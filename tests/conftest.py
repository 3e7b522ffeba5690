"""What tests share: a tiny model, tiny data, real commands, and the list of permitted skips."""

import atexit
import contextlib
import functools
import itertools
import os
import random
import shutil
import string
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import preloaded
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tiny import RunTiny, TinyRun

# Set before torch is imported: test processes run side by side, and bits depend on the threads.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
HOME = tempfile.mkdtemp(prefix="plainloop-tests-")
os.environ["HF_HOME"] = HOME  # a file of `accelerate config`, a login: nothing of theirs is found
os.environ["HF_DATASETS_CACHE"] = f"{HOME}/datasets"
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

ROOT = Path(__file__).parent.parent
GLUE = ROOT.parent / "shared" / "data" / "glue"
PERMITTED_SKIPS = ROOT / "tests" / "permitted_skips.txt"
SUBJECTS = ["cat", "dog", "girl", "boy", "nurse", "baker", "farmer", "pilot"]
VERBS = ["sees", "likes", "hears", "paints", "follows", "calls"]
OBJECTS = ["car", "tree", "house", "river", "song", "letter", "cake", "boat"]

# Timings on a busy machine say nothing about a property.
settings.register_profile("plainloop", deadline=None)
settings.load_profile("plainloop")

RunCommand = Callable[..., subprocess.CompletedProcess[str]]


@functools.cache
def python() -> str:
    """A Python that has imported torch already, for commands whose start is not what is tested."""
    serving = contextlib.ExitStack()
    atexit.register(serving.close)
    folder = serving.enter_context(tempfile.TemporaryDirectory())
    return str(serving.enter_context(preloaded.serving(Path(folder))) / "python")


@pytest.fixture(scope="session")
def glue() -> Path:
    """The real GLUE files."""
    if not GLUE.is_dir():
        pytest.skip("the real GLUE files are not here")
    return GLUE


@pytest.fixture(scope="session")
def glue_beginning(glue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 64 rows of each of the real MRPC files: where all rows add time and prove no more."""
    folder = tmp_path_factory.mktemp("glue") / "MRPC"
    folder.mkdir()
    for path in (glue / "MRPC").iterdir():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / path.name).write_text("".join(lines[:65]), encoding="utf-8")
    return folder.parent


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random 2-layer BERT with its tokenizer, in a folder."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = special + SUBJECTS + VERBS + OBJECTS + ["the", "a", "and", "not"]
    # Other words are spelled.
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    inner = Tokenizer(
        models.WordPiece({piece: at for at, piece in enumerate(words + letters)}, unk_token="[UNK]")
    )
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    torch.manual_seed(0)
    config = BertConfig(
        # As of a real model, most of which no text of a task uses.
        vocab_size=3 * len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        # Wide enough that the loss moves within a few steps.
        initializer_range=0.2,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_pairs(path: Path, num_rows: int, seed: int) -> None:
    """Pairs of sentences of uneven length; label 1 where both have the same subject."""
    draw = random.Random(seed)
    rows = ["sentence1\tsentence2\tlabel"]
    for row in range(num_rows):
        label = row % 2
        first = draw.choice(SUBJECTS)
        second = first if label else draw.choice([word for word in SUBJECTS if word != first])
        tail = [f"and {draw.choice(VERBS)} a {draw.choice(OBJECTS)}" for _ in range(row % 4)]
        rows.append(
            f"The {first} {draw.choice(VERBS)} the {draw.choice(OBJECTS)} {' '.join(tail)}\t"
            f"The {second} {draw.choice(VERBS)} a {draw.choice(OBJECTS)}\t{label}"
        )
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the demo task's layout: 43 training rows (a ragged last batch), 21 others."""
    folder = tmp_path_factory.mktemp("data")
    write_pairs(folder / "train.tsv", 43, seed=1)
    write_pairs(folder / "validation.tsv", 21, seed=2)
    write_pairs(folder / "test.tsv", 13, seed=3)
    return folder


@pytest.fixture
def run(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> "RunTiny":
    """Fine-tune the tiny model on the tiny data, each time in a new folder."""
    from tiny import run_tiny

    count = itertools.count()

    def run(**settings: Any) -> "TinyRun":
        settings = {"model": str(tiny_model), "data_dir": tiny_data, **settings}
        return run_tiny(tmp_path / f"run-{next(count)}", **settings)

    return run


@pytest.fixture
def run_command(tmp_path: Path) -> RunCommand:
    """Run a real Python command in an empty folder; output as text. `new`: its start is tested, too."""

    def run(
        *words: str | Path, expect: int = 0, new: bool = False, **environment: str | None
    ) -> subprocess.CompletedProcess[str]:
        finished = subprocess.run(
            [sys.executable if new else python(), *map(str, words)],
            cwd=tmp_path,
            env={k: v for k, v in {**os.environ, **environment}.items() if v is not None},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert finished.returncode == expect, finished.stdout + finished.stderr
        return finished

    return run


@pytest.fixture
def hub():
    """A stand-in for the hub: its address, and the files of its one repository."""
    from hub_server import serving

    with serving() as server:
        yield server


@pytest.fixture
def hub_environment(hub, tmp_path_factory):
    """Environment of a command that uses it, with an empty cache."""
    from hub_server import TOKEN

    home = str(tmp_path_factory.mktemp("home"))
    return {
        "HF_ENDPOINT": hub.address,
        "HF_TOKEN": TOKEN,
        "HF_HOME": home,
        "HF_HUB_OFFLINE": None,
    }


@pytest.fixture
def upload(run, hub, hub_environment, monkeypatch):
    """Train a run in this process and upload it as someone/run; its folder."""
    from huggingface_hub import constants

    from plainloop.predict.loaded_run import load_run
    from plainloop.report.card import write_card
    from plainloop.report.hub_upload import upload_run

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setenv("HF_TOKEN", hub_environment["HF_TOKEN"])

    def upload(**settings):
        folder = run(max_steps=2, **settings).folder
        write_card(load_run(folder))
        upload_run(folder, "someone/run", private=None)
        return folder

    return upload


@pytest.fixture
def refused(run_command, tmp_path):
    """Run a command that must be refused, changing nothing; the lines it says."""

    def content():
        return {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}

    def refused(*words, torch_is_imported=False, expect=2):
        before = content()
        finished = run_command(
            *("-X", "importtime", "-m", "plainloop", *words),
            expect=expect,
            new=True,
        )
        assert content() == before
        lines = finished.stderr.splitlines()
        imports = {line for line in lines if line.startswith("import time:")}
        imported = {line.rpartition("|")[2].strip() for line in imports}
        assert ("torch" in imported) is torch_is_imported
        said = [line for line in lines if line not in imports]
        assert all(line.startswith("error: ") for line in said), said
        return said

    return refused


_skips: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        assert isinstance(report.longrepr, tuple)
        _skips.append(report.longrepr[2].removeprefix("Skipped: "))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skip whose reason is not in the list fails the run."""
    permitted = {
        line for line in PERMITTED_SKIPS.read_text(encoding="utf-8").splitlines() if line[:1] != "#"
    }
    unexpected = sorted(set(_skips) - permitted)
    if unexpected:
        print(f"\nskipped for a reason that {PERMITTED_SKIPS.name} does not have: {unexpected}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
