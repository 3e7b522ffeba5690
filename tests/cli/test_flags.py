"""Flags and a settings file: their spelling, their order, and what is said of a mistake."""

import dataclasses
from pathlib import Path

import pytest
from cyclopts import App

from plainloop.cli.flags import parse_config, read_settings, run_app
from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError
from plainloop.run.folder import RunFolder


def parse(*tokens):
    return parse_config([str(token) for token in tokens], program="test", description="A test.")


def refusal(*tokens):
    with pytest.raises(UserError) as caught:
        parse(*tokens)
    return str(caught.value)


@pytest.fixture
def settings_file(tmp_path):
    """Write a settings file of these lines."""

    def write(content):
        path = tmp_path / "settings.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_no_flags_give_the_defaults():
    assert parse() == TrainConfig()


@pytest.mark.parametrize(
    ("tokens", "wanted"),
    [
        (["--learning-rate", "1e-3"], {"learning_rate": 1e-3}),
        (["--learning_rate", "1e-3"], {"learning_rate": 1e-3}),
        (["--learning-rate=1e-3"], {"learning_rate": 1e-3}),
        (["--learning_rate=1e-3"], {"learning_rate": 1e-3}),
        (["--lr", "1e-3"], {"learning_rate": 1e-3}),
        (["--epochs", "0.5"], {"num_train_epochs": 0.5}),
        (["--batch-size", "4"], {"per_device_train_batch_size": 4}),
        (["--batch_size", "4"], {"per_device_train_batch_size": 4}),
        (["--eval-batch-size", "4"], {"per_device_eval_batch_size": 4}),
        (["-o", "there"], {"output_dir": Path("there")}),
        (["--max-steps", "-1"], {"max_steps": -1}),
        (["--load-best-model-at-end"], {"load_best_model_at_end": True}),
        (["--load_best_model_at_end"], {"load_best_model_at_end": True}),
        (["--no-load-best-model-at-end"], {"load_best_model_at_end": False}),
        (["--no-greater-is-better"], {"greater_is_better": False}),
        (["--label-column", "a b"], {"label_column": "a b"}),
        (["--label-column", "a b", "c", "--seed", "1"], {"label_column": ("a b", "c"), "seed": 1}),
        (["--class-weights", "balanced"], {"class_weights": "balanced"}),
        (["--class-weights", "1", "2.5", "--seed", "1"], {"class_weights": (1.0, 2.5), "seed": 1}),
        (["a.csv", "b.csv", "--seed", "1"], {"train_file": ("a.csv", "b.csv"), "seed": 1}),
        (["--seed", "1", "a.csv"], {"train_file": ("a.csv",), "seed": 1}),
        (["--overwrite", "a.csv"], {"train_file": ("a.csv",), "overwrite": True}),
        (["--lr-scheduler-kwargs.num_cycles", "2"], {"lr_scheduler_kwargs": {"num_cycles": 2.0}}),
    ],
    ids=" ".join,
)
def test_flags_can_be_written_in_these_ways(tokens, wanted):
    assert parse(*tokens) == TrainConfig(**wanted)


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(TrainConfig)])
def test_dashes_and_underscores_are_alike(name):
    value = {bool: [], int: ["7"], float: ["7"], str: ["linear"]}
    words = value.get(type(getattr(TrainConfig(), name)), ["1"])
    words = {
        "eval_strategy": ["steps"],
        "save_strategy": ["steps"],
        "greater_is_better": [],
        "header": [],
        "problem_type": ["regression"],
        "on_null": ["drop"],
        "report_to": ["wandb"],
        "execution": ["unpadded"],
        "products": ["default"],
        "quotes": ["text"],
        "train_sampling_strategy": ["weighted"],
        "optim": ["sgd"],
        "dtype": ["bfloat16"],
        "threshold_costs": ["1", "5"],
        "lr_scheduler_kwargs": ['{"power": 2}'],
    }.get(name, words)
    dashes = parse("--" + name.replace("_", "-"), *words)
    assert dashes == parse("--" + name, *words)
    unchanged = ("lr_scheduler_type", "group_duplicates")  # the flag says the default
    assert name in unchanged or dashes != TrainConfig()


@pytest.mark.parametrize(
    "before", [True, False], ids=["--config before the flags", "--config after the flags"]
)
def test_a_flag_beats_the_file_and_the_file_beats_the_default(settings_file, before):
    path = settings_file("seed: 1\nlearning_rate: 0.5\nfreeze_embeddings: true\n")
    file, flags = ["--config", path], ["--seed", "2", "--no-freeze-embeddings"]
    config = parse(*file, *flags) if before else parse(*flags, f"--config={path}")
    assert config == TrainConfig(seed=2, learning_rate=0.5, freeze_embeddings=False)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("learning_rate: 5e-5", {"learning_rate": 5e-5}),
        ("data_dir: here", {"data_dir": Path("here")}),
        ("dropout: null", {}),
        ("class_weights: [1, 2.5]", {"class_weights": (1.0, 2.5)}),
        ("lr_scheduler_kwargs: {power: 2}", {"lr_scheduler_kwargs": {"power": 2.0}}),
        ("eval_strategy: 'no'", {"eval_strategy": "no"}),
        ("eval_strategy: no", {"eval_strategy": "no"}),
        ("model: 123", {"model": "123"}),
        ("\ufeffseed: 1", {"seed": 1}),
    ],
)
def test_a_settings_file_written_by_hand_is_read(settings_file, line, wanted):
    assert parse("--config", settings_file(line + "\n")) == TrainConfig(**wanted)


OTHERS = TrainConfig(
    task="demo",
    data_dir=Path("a folder/ü"),
    train_file=("a b.csv", "c-*.csv"),
    validation_file=("v.csv",),
    test_file=("test.tsv", "ü.tsv"),
    dataset="name:config",
    text_column=("a", "b"),
    label_column="y",
    problem_type="multi_label_classification",
    label_separator=", ",
    validation_fraction=0.25,
    validation_seed=3,
    group_column="g",
    encoding="cp949",
    separator=";",
    sheet="Ergebnisse 2024",
    quotes="text",
    group_duplicates=False,
    header=False,
    products="default",
    on_null="drop",
    stride=16,
    max_length=128,
    max_train_samples=100,
    model="./a: b # c",
    dropout=0.25,
    freeze_embeddings=True,
    freeze_layers=2,
    new_head=True,
    lora_rank=4,
    lora_alpha=0.1,
    merge_lora=True,
    num_train_epochs=0.1 + 0.2,
    max_steps=7,
    per_device_train_batch_size=16,
    gradient_accumulation_steps=3,
    learning_rate=1e-7,
    lr_scheduler_type="cosine_with_min_lr",
    lr_scheduler_kwargs={"num_cycles": 0.5, "min_lr": 1e-8},
    warmup_steps=0.1,
    weight_decay=0.01,
    adam_beta1=0.8,
    adam_beta2=0.98,
    adam_epsilon=1e-6,
    gradient_checkpointing=True,
    max_grad_norm=0.0,
    label_smoothing_factor=0.1,
    class_weights=(1.0, 1 / 3),
    focal_gamma=0.5,
    train_sampling_strategy="weighted",
    optim="sgd",
    dtype="bfloat16",
    bf16=True,
    fp16=True,
    tf32=False,
    torch_compile=True,
    seed=2**32 - 1,
    eval_strategy="steps",
    eval_steps=5,
    per_device_eval_batch_size=64,
    metric_for_best_model="f1",
    greater_is_better=False,
    load_best_model_at_end=True,
    early_stopping_patience=2,
    early_stopping_threshold=1e-3,
    threshold_metric="f1",
    threshold_costs=(1.0, 2.5),
    calibrate=True,
    output_dir=Path("set by the test"),
    overwrite=True,
    save_strategy="steps",
    save_steps=9,
    save_total_limit=3,
    resume=True,
    resume_from_checkpoint=Path("runs/x/checkpoints/step-000001"),
    force=True,
    report_to=("tensorboard", "mlflow"),
    logging_steps=1,
    dataloader_num_workers=1,
    use_cpu=True,
    execution="padded",
    ddp_timeout=60,
    step_timeout=5,
    dry_run=True,
)


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(task="demo"),
        OTHERS,
        TrainConfig(class_weights="balanced", eval_strategy="no", label_column=("a b", "c")),
    ],
    ids=["defaults", "no defaults", "words"],
)
def test_the_run_yaml_of_a_run_gives_its_settings_again(tmp_path, monkeypatch, config):
    monkeypatch.chdir(tmp_path)
    run = RunFolder.create(dataclasses.replace(config, output_dir=Path("run")))
    # But for how the command was called: a run is not replaced because it once replaced another.
    assert parse("--config", run.path / "run.yaml") == dataclasses.replace(
        config,
        output_dir=Path("run"),
        overwrite=False,
        dry_run=False,
        resume=False,
        resume_from_checkpoint=None,
        force=False,
    )


def test_no_setting_is_left_out_of_that():
    same = dataclasses.asdict(OTHERS).items() & dataclasses.asdict(TrainConfig()).items()
    assert same == set()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("lerning_rate: 1\n", "{}: unknown setting 'lerning_rate'; did you mean learning_rate"),
        ("learning-rate: 1\n", "{}: unknown setting 'learning-rate'; did you mean learning_rate"),
        ("1: 2\n", "{}: unknown setting '1'; known: "),
        ("seed: 1\na: b: c\n", "{}, line 2: not YAML: mapping values are not allowed here; "),
        ("seed: [1\n", "{}, line 2: not YAML: "),
        ("seed: 1\nx: \tb: c\n", "{}, line 2: not YAML: "),
        ("x: !!python/name:os.system\n", "{}, line 1: not YAML: could not determine"),
        (b"x: \xff\n", "{}: not UTF-8; "),
        ("seed: 2020-99-99\n", "{}: not YAML: "),
        ("", "{}: not a mapping; write lines like seed: 42"),
        ("- seed\n", "{}: not a mapping; write lines like seed: 42"),
        ("seed\n", "{}: not a mapping; write lines like seed: 42"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_name(settings_file, content, message):
    path = settings_file(content)
    with pytest.raises(UserError) as caught:
        read_settings(path)
    assert str(caught.value).startswith(message.format(path))
    assert caught.value.fix


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("seed: 1\nepochs: 2\n'seed': 3\n", 3),
        ("lr_scheduler_kwargs:\n  a: 1\n  a: 1\n", 3),
        ("{seed: 1, seed: 1}", 1),
    ],
)
def test_a_key_given_twice_is_refused_and_not_the_last_taken(settings_file, content, line):
    path = settings_file(content)
    with pytest.raises(UserError) as caught:
        read_settings(path)
    name = "a" if "kwargs" in content else "seed"
    assert str(caught.value) == (
        f"{path}, line {line}: '{name}' is given twice; keep one of the two"
    )


def test_a_merged_mapping_may_be_overridden(settings_file):
    path = settings_file("lr_scheduler_kwargs: {<<: {a: 1, b: 2}, b: 3}\n")
    assert read_settings(path) == {"lr_scheduler_kwargs": {"a": 1, "b": 3}}


@pytest.mark.parametrize(
    "content",
    [
        "encoding: {1: 2}",
        "lr_scheduler_kwargs: {1: 2}",
        "lr_scheduler_kwargs: {a: [1]}",
        "seed: &a {x: *a}",
        "text_column: &a [*a]",
        "train_file: [{a: b}]",
        "[" * 3000,
        "seed: !!float ''",
        "seed: !!timestamp x",
    ],
    ids=lambda content: content[:30],
)
def test_what_no_setting_has_is_a_line(settings_file, content):
    path = settings_file(content)
    with pytest.raises(UserError) as caught:
        read_settings(path)
    assert len(caught.value.lines()) == 1
    assert str(caught.value).startswith(str(path))


def test_a_character_that_yaml_does_not_allow_is_not_called_an_encoding(settings_file):
    path = settings_file("seed: \x01\n")
    with pytest.raises(UserError, match=r"not YAML: .*not allowed") as caught:
        read_settings(path)
    assert caught.value.where.startswith(str(path))


def test_every_unknown_setting_has_its_line(settings_file):
    message = refusal("--config", settings_file("sed: 1\nmodell: x\n"))
    assert [line.partition("; ")[2] for line in message.splitlines()] == [
        "did you mean seed or sheet?",
        "did you mean model?",
    ]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("seed: many", "seed"),
        ("seed: [1, 2]", "seed"),
        ("seed: true", "seed"),
        ("seed: 1.5", "seed"),
        ("learning_rate: {a: 1}", "learning_rate"),
        ("overwrite: maybe", "overwrite"),
        ("lr_scheduler_type: linaer", "lr_scheduler_type"),
        ("lr_scheduler_kwargs: 3", "lr_scheduler_kwargs"),
        ("class_weights: balansed", "class_weights"),
    ],
)
def test_a_wrong_value_in_the_file_is_refused_with_both_names(settings_file, line, name):
    path = settings_file(line + "\n")
    message = refusal("--config", path)
    assert f"[{name}]" in message
    assert str(path) in message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("setings.yaml", "--config {}/setings.yaml: no such file; did you mean settings.yaml?"),
        ("none/settings.yaml", "--config {}/none/settings.yaml: no such file; give one"),
        ("", "--config {}: no such file; "),
    ],
)
def test_a_missing_settings_file_is_refused_with_the_nearest(tmp_path, name, message):
    (tmp_path / "settings.yaml").touch()
    assert refusal("--config", tmp_path / name).startswith(message.format(tmp_path))


def test_config_without_a_file_is_refused():
    assert refusal("--config") == "--config: no file given; --config FILE"


@pytest.mark.parametrize(
    ("tokens", "fragments"),
    [
        (["--seed", "many"], ["--seed", '"many"', "int"]),
        (["--seed", "1.5"], ["--seed", "1.5"]),
        (["--batch-size", "3.6"], ["--batch-size", "3.6"]),
        (["--lr", "fast"], ["--lr", '"fast"', "float"]),
        (["--lr"], ["--lr", "requires an argument"]),
        (["--sed", "1"], ["unknown flag --sed", "did you mean --seed?"]),
        (["--lr-scheduler-type", "linaer"], ['"linaer"', 'Did you mean "linear"?']),
        (["--eval-strategy", "never"], ['"never"', '"no", "steps", "epoch"']),
        (["--seed", "1", "--seed", "2"], ["--seed", "multiple times"]),
    ],
    ids=" ".join,
)
def test_a_wrong_flag_or_value_is_refused_in_one_line(tokens, fragments):
    message = refusal(*tokens)
    assert "\n" not in message
    assert [fragment for fragment in fragments if fragment not in message] == []
    assert message.endswith(("see test --help-all", "?", '"epoch"'))


def test_a_settings_file_leaves_nothing_behind_for_the_next_command_line(settings_file):
    app = App(name="test")

    @app.default
    def settings(config: TrainConfig = TrainConfig()) -> TrainConfig:
        return config

    assert run_app(app, ["--config", str(settings_file("seed: 7\n"))]).seed == 7
    assert run_app(app, []).seed == 42


def test_a_file_without_a_flag_beats_that_of_the_settings_file(settings_file):
    path = settings_file("train_file: [a.csv]\n")
    assert parse("--config", path, "b.csv").train_file == ("b.csv",)
    assert parse("--config", path).train_file == ("a.csv",)


# what people type -> what is named
EXPECTED = {
    "--train-fil": "--train-file",
    "--data": "--train-file",
    "--text": "--text-column",
    "--label_column_name": "--label-column",
    "--target=y": "--label-column",
    "--val-file": "--validation-file",
    "--dev_file": "--validation-file",
    "--test-size": "--validation-fraction",
    "--model_name_or_path": "--model",
    "--dataset_name": "--dataset",
    "--max_seq_length": "--max-length",
    "--limit": "--max-train-samples",
    "--num_epochs": "--num-train-epochs",
    "--bs": "--batch-size",
    "--per_gpu_train_batch_size": "--batch-size",
    "--scheduler": "--lr-scheduler-type",
    "--warmup_ratio": "--warmup-steps",
    "--evaluation_strategy": "--eval-strategy",
    "--class_weight": "--class-weights",
    "--patience": "--early-stopping-patience",
    "--out": "--output-dir",
    "--output": "--output-dir",
    "--overwrite_output_dir": "--overwrite",
    "--no_cuda": "--use-cpu",
    "--wandb": "--report-to",
    "--amp": "--bf16",
    "--optimizer": "--optim",
    "--num_labels": "leave it out: labels are found in the data",
    "--do_train": "leave it out",
    "--verbose": "see test --help-all",
}


@pytest.mark.parametrize(("given", "named"), EXPECTED.items())
def test_a_flag_that_people_expect_names_the_nearest(given, named):
    what, _, fix = refusal(given, "1").partition("; ")
    assert what == f"test: unknown flag {given}"
    assert fix in (f"did you mean {named}?", named) or named in fix


def test_every_flag_that_is_named_exists():
    from plainloop.cli import expected_flags
    from plainloop.cli.app import app

    flags = {
        name
        for command in ("train", "predict", "evaluate")
        for argument in app[command].assemble_argument_collection()
        for name in argument.names
    }
    names = expected_flags.EXPECTED
    wanted = {word for answer in names if answer[:2] == "--" for word in answer.split()}
    assert wanted - flags == set()
