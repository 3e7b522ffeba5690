"""LoRA through peft: small trained matrices beside frozen attention layers (arXiv:2106.09685)."""

import warnings
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plainloop.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER_CONFIG_FILE = "adapter_config.json"
ADAPTER_WEIGHTS_FILE = "adapter_model.safetensors"
ATTENTION_LAYERS = {
    *("query", "value", "query_proj", "value_proj", "q_proj", "v_proj", "q_lin", "v_lin", "q", "v"),
    *("Wqkv", "qkv_proj", "query_key_value"),
}
"""What architectures that peft has no default for call their query and value layers."""


def check_peft(where: str) -> None:
    """Check that peft is installed, importing nothing.

    Args:
        where: what needs it: a flag or a folder.

    Raises:
        UserError: it is not.
    """
    if find_spec("peft") is None:
        raise UserError(
            "LoRA needs peft, which is not installed",
            where=where,
            fix="pip install 'plainloop[lora]'",
        )


def is_lora_folder(folder: Path) -> bool:
    """Whether `save_lora` or peft wrote a model folder."""
    return (folder / ADAPTER_CONFIG_FILE).is_file()


def check_lora_folder(folder: Path) -> None:
    """Check that `from_pretrained` can and may load a folder that `is_lora_folder`.

    Raises:
        UserError: peft is not installed (transformers would then load the base model and say
            nothing), or the adapter's weights are missing or pickle.
    """
    check_peft(f"--model {folder}")
    if not (folder / ADAPTER_WEIGHTS_FILE).is_file():
        raise UserError(
            f"an adapter without {ADAPTER_WEIGHTS_FILE}",
            where=f"--model {folder}",
            fix="copy it there, or give the folder of a finished run",
        )


def add_lora(
    model: "PreTrainedModel",
    rank: int,
    alpha: float | None = None,
    *,
    new_parameters: Iterable[str] = (),
) -> Any:
    """Freeze a classifier, but for its head, and train matrices of a low rank beside its layers.

    The layers are peft's default for the architecture, else the query and value layers of the
    attention, found by name. The matrices A are drawn from torch's global generator, B is zero: the
    logits stay what they were.

    Args:
        model: from `load_model`; it is changed.
        rank: of the matrices.
        alpha: what they add is multiplied by alpha / rank; None: 2 x rank.
        new_parameters: from `load_model`; what the checkpoint did not have is trained in full, and
            so is all that stands outside of the encoder.

    Returns:
        A `peft.PeftModelForSequenceClassification` around the model.

    Raises:
        UserError: peft is not installed, or the model has no such layers.
    """
    check_peft("--lora-rank")
    from peft import LoraConfig, TaskType, get_peft_model

    encoder = model.base_model
    head = {
        name
        for name, child in model.named_children()
        if child is not encoder and any(True for _ in child.parameters())
    }
    new = {name.rpartition(".")[0] for name in new_parameters}
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,  # type: ignore[arg-type]  # any number works
        target_modules=_attention_layers(model),
        modules_to_save=sorted(head | {name for name in new if name.split(".")[0] not in head}),
    )
    with warnings.catch_warnings():  # peft 0.21 asks transformers by a name that it gives up
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        return get_peft_model(model, config)


def _attention_layers(model: "PreTrainedModel") -> Any:
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    from torch import nn

    known = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model.config.model_type)
    if known:
        return known
    linear = {
        name.rpartition(".")[2]
        for name, module in model.base_model.named_modules()
        if isinstance(module, nn.Linear)
    }
    if not linear & ATTENTION_LAYERS:
        raise UserError(
            f"{type(model).__name__} has no query and value layers that LoRA can be added to",
            where="--lora-rank",
            fix="leave it out, or choose another model",
        )
    return sorted(linear & ATTENTION_LAYERS)


def save_lora(model: Any, folder: Path) -> None:
    """Save a model of `add_lora`, so that `AutoModelForSequenceClassification` loads the folder.

    adapter_config.json and adapter_model.safetensors are what peft writes: the adapter and the
    head. They alone would be loaded onto a base model of two unnamed labels, since labels are not
    in them; so the base model stands beside them, as it was before the training, with the labels
    in its config.json. With all of them the folder needs no other place.
    """
    from copy import copy

    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    adapter = {
        name: tensor.contiguous() for name, tensor in get_peft_model_state_dict(model).items()
    }
    config = copy(model.peft_config["default"])
    config.inference_mode = True
    # Not model.save_pretrained, which would also write a README.md.
    config.save_pretrained(folder)
    save_file(adapter, folder / ADAPTER_WEIGHTS_FILE, metadata={"format": "pt"})
    base = {
        name.replace(".base_layer.", ".").replace(".original_module.", "."): tensor
        for name, tensor in model.get_base_model().state_dict().items()
        if ".lora_" not in name and ".modules_to_save." not in name
    }
    model.get_base_model().save_pretrained(folder, state_dict=base)


def merge_lora(model: Any) -> "PreTrainedModel":
    """Add the adapter's matrices to the weights of the layers they stand beside.

    W + alpha / rank x BA is rounded once in float32: the logits of a float32 model move by some
    1e-6 of their size.

    Args:
        model: of `add_lora`, or loaded by `from_pretrained` from what `save_lora` wrote. It is
            taken apart.

    Returns:
        The classifier without peft, all of it to be trained and saved like any other.
    """
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    plain: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    for name, module in list(plain.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            plain.set_submodule(name, module.get_base_layer())
        elif isinstance(module, ModulesToSaveWrapper):
            plain.set_submodule(name, module.modules_to_save["default"])
    if hasattr(plain, "peft_config"):
        del plain.peft_config
    # transformers notes in a model that it has loaded an adapter into it, and how its weights were
    # called in the file; by these notes it would save an adapter, under an adapter's names.
    if getattr(plain, "_hf_peft_config_loaded", False):
        plain._hf_peft_config_loaded = False  # noqa: SLF001
        vars(plain).pop("_weight_conversions", None)
    merged: PreTrainedModel = plain.requires_grad_(requires_grad=True)
    return merged
