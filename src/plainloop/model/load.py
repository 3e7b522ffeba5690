"""Load a checkpoint as a classifier with a head for the task."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from threading import RLock
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.data.batches.loaders import Batch, model_inputs_of
from plainloop.data.batches.sliding_windows import pool_windows
from plainloop.errors import (
    DivergedError,
    PlainloopError,
    UserError,
    is_out_of_memory,
    printable,
)
from plainloop.model.lora import add_lora, is_lora_folder, merge_lora, train_in_float32
from plainloop.model.padding import (
    ignore_neighbours,
    keep_attention_type,
    read_last_token_by_mask,
    set_padding,
)
from plainloop.model.pretrained import label_names_of, unnamed_labels

_loading = RLock()  # what `explain_load_errors` changes is global
MOST_NAMES_SHOWN = 12
KNOWN_ERRORS = (
    (
        r"custom code",
        "it needs code from its own files, which is never run",
        "choose a model of a type that is part of Transformers",
    ),
    (
        r"has model type `(.*?)` but Transformers does not",
        rf"transformers {version('transformers')} has no model type '\1'",
        "pip install --upgrade transformers if the model is newer, or correct its config.json",
    ),
    (
        r"Unrecognized configuration class <class '[\w.]*?(\w+)Config'>",
        r"Transformers has no text classifier of the type \1",
        "choose a model for text that AutoModelForSequenceClassification loads",
    ),
    (
        r"ignore_mismatched_sizes",
        "its weights have other shapes than its config.json says",
        "its files are damaged or of two models: copy or download them again",
    ),
    (
        r"index out of range|out of bounds",
        "a token or a position is beyond its tables",
        "give a lower --max-length, or copy the files of its tokenizer again",
    ),
    (
        r"If training, (make sure|sequence length)",
        "it trains on rows of one length alone, which its config.json sets",
        "choose a model of another type",
    ),
)
"""In the text of an error of Transformers: what it is about, and how to fix it."""

logger = logging.getLogger(__name__)


def dropout_fields(config: Any) -> list[str]:
    """The dropout probabilities in a model's config, as they are called there; none that is None.

    BERT has hidden_dropout_prob, BART dropout, T5 dropout_rate, GPT-2 resid_pdrop, and each has others.
    LayerDrop, which skips layers, is not one of them.
    """
    return [
        name
        for name, value in config.to_dict().items()
        if ("dropout" in name or "pdrop" in name) and type(value) in (int, float)
    ]


def load_model(
    pretrained: str,
    task: Task,
    *,
    dropout: float | None = None,
    new_head: bool = False,
    dtype: str = "float32",
) -> tuple[PreTrainedModel, list[str]]:
    """Load a classifier with one logit per label, or a single one for regression.

    The head of a checkpoint is kept if it was trained for these labels; otherwise a new one is drawn
    from torch's global generator, so seed that first. Code in a checkpoint is never run
    (`trust_remote_code=False`, safetensors only).

    Args:
        pretrained: a folder or hub name, as `resolve_model` gives it.
        task: gives the label names and the problem type, which are saved with the model.
        dropout: probability of all dropouts of the model; None: as in the checkpoint.
        new_head: draw a new head even if the checkpoint has one.
        dtype: of all its weights, as torch calls it.

    Returns:
        The model (on the CPU, in evaluation mode) and the names of its new parameters.

    Raises:
        UserError: the checkpoint cannot be loaded, or has a head for other labels.
    """
    with explain_load_errors(pretrained):
        config = AutoConfig.from_pretrained(pretrained, trust_remote_code=False)
        if not new_head:
            _check_head(config, pretrained, task)
        config.num_labels = task.num_labels
        config.problem_type = task.problem_type
        if task.label_names:
            config.id2label = dict(enumerate(task.label_names))
            config.label2id = {name: label for label, name in enumerate(task.label_names)}
        if dropout is not None:
            for part in (config, config.get_text_config()):
                for name in dropout_fields(part):
                    setattr(part, name, dropout)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            pretrained,
            config=config,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=new_head,
        )
        if is_lora_folder(Path(pretrained)):
            model = merge_lora(model)
        _separate(model)
        new = set(info["missing_keys"])
        if new_head:
            new |= draw_new_head(model)
    read_last_token_by_mask(model)
    ignore_neighbours(model)
    dropouts = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    if dropout is not None and (kept := {p for p in dropouts if p != dropout}):
        logger.warning(
            "--dropout: dropouts of %s in %s are not in its config, and stay as they are",
            ", ".join(map(str, sorted(kept))),
            type(model).__name__,
        )
    return model, sorted(new)


def draw_new_head(model: PreTrainedModel) -> set[str]:
    """Draw a classifier's parameters outside of its encoder again; return their names."""
    # `ignore_mismatched_sizes` draws only parameters of another shape, and would keep the head of
    # as many labels. The head is therefore that of a model drawn from the configuration alone.
    fresh = AutoModelForSequenceClassification.from_config(model.config).state_dict()
    head = {name for name in fresh if not name.startswith(f"{model.base_model_prefix}.")}
    model.load_state_dict({name: fresh[name] for name in head}, strict=False)
    return head


def create_model(
    pretrained: str, task: Task, config: TrainConfig, tokenizer: PreTrainedTokenizerBase
) -> tuple[PreTrainedModel, list[str]]:
    """Load a classifier and apply the settings: freezing, gradient checkpointing, LoRA, text windows.

    Args:
        pretrained: a folder or hub name, as `resolve_model` gives it.
        task: gives the label names and the problem type.
        config: its dropout, new_head, dtype, freeze_*, gradient_checkpointing, lora_* and stride.
        tokenizer: whose padding token the model is told.

    Returns:
        As `load_model`.

    Raises:
        UserError: as `load_model`, `freeze` and `add_lora`; or the model does not support gradient
            checkpointing.
    """
    model, new_parameters = load_model(
        pretrained, task, dropout=config.dropout, new_head=config.new_head, dtype=config.dtype
    )
    set_padding(model, tokenizer)
    freeze(model, embeddings=config.freeze_embeddings, layers=config.freeze_layers)
    if config.gradient_checkpointing:
        if not model.supports_gradient_checkpointing:
            raise UserError(
                f"{type(model).__name__} cannot compute its layers again",
                where="--gradient-checkpointing",
                fix="leave it out, and give a smaller batch with more accumulation",
            )
        # Reentrant checkpointing gives no gradients if the inputs need none, as with frozen embeddings.
        model.activation_checkpointing_enable({"use_reentrant": False})
    if config.lora_rank is not None:
        model = add_lora(model, config.lora_rank, config.lora_alpha, new_parameters=new_parameters)
    if config.dtype != "float32":
        train_in_float32(model)
    if config.stride is not None:
        model = pool_windows(model)
    return model, new_parameters


def _separate(model: nn.Module) -> None:
    """Copy parameters that are parts of one tensor, of which safetensors saves none.

    Transformers cuts NomicBERT's queries, keys and values from one tensor of the file.
    """
    for parameter in model.parameters():
        if parameter.untyped_storage().nbytes() > parameter.nbytes:
            parameter.data = parameter.data.clone()


def copy_to_aligned_memory(model: nn.Module) -> None:
    """Copy each parameter into memory that torch allocated, which is aligned.

    Loaded parameters are views into the safetensors file. If one is not aligned, the matrix products of
    few rows sum in another order. With the copy, a saved model reproduces the bits of its training.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()


def freeze(model: PreTrainedModel, *, embeddings: bool, layers: int) -> None:
    """Freeze the embeddings, or the embeddings and the first encoder layers.

    Args:
        model: its `requires_grad` flags are changed.
        embeddings: whether to freeze the embeddings.
        layers: number of encoder layers to freeze; more than 0 freezes the embeddings, too.

    Raises:
        UserError: the model has fewer layers, no list of layers, or no table of token embeddings.
    """
    if layers:
        depth = getattr(model.config.get_text_config(), "num_hidden_layers", None)
        stacks = [
            module
            for module in model.base_model.modules()
            if isinstance(module, nn.ModuleList) and len(module) == depth
        ]
        if not stacks:
            raise UserError(
                f"{type(model).__name__} has no list of layers to freeze",
                where="--freeze-layers",
                fix="freeze its embeddings alone, or nothing",
            )
        if layers > len(stacks[0]):
            raise UserError(
                f"{layers} layers are more than the model's {depth}",
                where="--freeze-layers",
                fix=f"give at most {depth}",
            )
        for layer in stacks[0][:layers]:
            layer.requires_grad_(False)
    if embeddings or layers:
        table = token_embeddings(model)
        if table is None:
            raise UserError(
                f"{type(model).__name__} has no table of token embeddings to freeze",
                where="--freeze-embeddings" if embeddings else "--freeze-layers",
                fix="leave it out",
            )
        # All of `embeddings` (tokens, positions, norm) if the model has that module, else the tokens.
        getattr(model.base_model, "embeddings", table).requires_grad_(False)


def token_embeddings(model: PreTrainedModel) -> nn.Module | None:
    """The table of token embeddings; None for CANINE, which hashes, and Perceiver, which names its latents."""
    try:
        table: Any = model.get_input_embeddings()
    except NotImplementedError:
        return None
    return table if isinstance(table, nn.Module) else None


def first_forward(
    model: PreTrainedModel, batch: Batch, accelerator: Accelerator | None = None
) -> tuple[float, tuple[int, ...]]:
    """Run a model on one batch before training, and restore the random number generator.

    With DistributedDataParallel, a backward pass finds out whether some parameters get no gradient, as
    RoFormer's position embeddings. It is then told to look for them at each step.

    Args:
        model: on the CPU; it is left in training mode, without gradients.
        batch: from `peek`, with labels.
        accelerator: its settings for DistributedDataParallel may be changed; None: one process.

    Returns:
        The loss and the shape of the logits (rows, labels).

    Raises:
        UserError: the forward pass fails, as with values of a wrong type in config.json.
        DivergedError: the loss is not finite.
    """
    # torchrun with a single process makes one of these, too.
    is_ddp = accelerator is not None and accelerator.distributed_type.startswith("MULTI_")
    with trial(model), torch.set_grad_enabled(is_ddp):
        outputs = model.train()(**model_inputs_of(batch))
        loss = float(outputs.loss.detach())
        if is_ddp:
            outputs.loss.backward()
    # Layers that LayerDrop leaves out get a gradient in some batches only.
    drops = any("layerdrop" in name and rate for name, rate in model.config.to_dict().items())
    without = any(p.requires_grad and p.grad is None for p in model.parameters())
    if accelerator is not None and is_ddp and (drops or without):
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
    model.zero_grad()
    if not torch.isfinite(outputs.loss):
        raise DivergedError(
            f"the loss of the first batch is {loss} before any training",
            where="first forward pass",
            fix="the checkpoint's weights are damaged or not finite: load them again",
        )
    return loss, tuple(outputs.logits.shape)


@contextmanager
def trial(model: PreTrainedModel) -> Iterator[None]:
    """Explain the errors of a forward pass before training, of which nothing may be left.

    Dropout draws numbers, and I-BERT keeps the range of its activations in buffers.
    """
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with (
        explain_load_errors(model.name_or_path or ""),
        torch.random.fork_rng(devices=[]),
        keep_attention_type(model),
    ):
        yield
    for name, buffer in model.named_buffers():
        buffer.copy_(before.get(name, buffer))


def _check_head(config: Any, pretrained: str, task: Task) -> None:
    in_head = label_names_of(config.architectures, config.id2label)
    if in_head not in (None, task.label_names, unnamed_labels(task.num_labels)):
        names = task.label_names
        in_task = f"{len(names)} ({_some(names)})" if names else "none"
        raise UserError(
            f"{pretrained} has a head for {len(in_head)} labels ({_some(in_head)}), "
            f"the task has {in_task}",
            where="--model",
            fix="--new-head replaces it; or choose a checkpoint for this task",
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMES_SHOWN]) + (", ..." if len(names) > MOST_NAMES_SHOWN else "")


@contextmanager
def explain_load_errors(pretrained: str) -> Iterator[None]:
    """Report an error of loading or trying a checkpoint as a UserError; silence Transformers meanwhile.

    Meanwhile `torch.load` is refused, so that no pickle file is opened, whatever names it.
    """
    with _loading:
        verbosity = transformers_logging.get_verbosity()
        bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        load, torch.load = torch.load, _refuse_pickle
        try:
            yield
        except PlainloopError:
            raise
        except Exception as error:  # whatever Transformers raises about these files
            if is_out_of_memory(error):
                raise
            reason, fix = _explain(error, is_folder=Path(pretrained).is_dir())
            what = f"{printable(pretrained, most=300)} cannot be loaded: {reason}"
            raise UserError(what, where="--model", fix=fix) from error
        finally:
            torch.load = load
            transformers_logging.set_verbosity(verbosity)
            if bars:
                transformers_logging.enable_progress_bar()


def _explain(error: Exception, *, is_folder: bool) -> tuple[str, str]:
    """What an error of Transformers is about, and how to fix it."""
    text = " ".join(str(error).split()) or type(error).__name__
    for pattern, reason, fix in KNOWN_ERRORS:
        if found := re.search(pattern, text):
            return printable(found.expand(reason), most=200), fix
    if isinstance(error, ImportError):
        return printable(text, most=200), "install that package, or choose another model"
    return (
        printable(text, most=200),
        "its files are damaged: copy or download them again"
        if is_folder
        else "fetch it once with a network (hf download NAME), give a folder, or set HF_TOKEN "
        "if it is private; --model demo needs no network",
    )


def _refuse_pickle(*_: Any, **__: Any) -> NoReturn:
    raise ValueError("its weights are pickle, which could run code: convert them to safetensors")
