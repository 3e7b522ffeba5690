"""LoRA (Hu et al. 2021, arXiv:2106.09685) through peft: add, save, load and merge adapters."""

import warnings
from collections.abc import Iterable
from copy import copy
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
"""Names of query and value projections in architectures for which peft has no default."""


def check_peft(where: str) -> None:
    """Check that peft is installed, without importing it.

    Args:
        where: the flag or folder that needs it, for the message.

    Raises:
        UserError: peft is not installed.
    """
    if find_spec("peft") is None:
        raise UserError(
            "LoRA needs peft, which is not installed",
            where=where,
            fix="pip install peft",
        )


def is_lora_folder(folder: Path) -> bool:
    """Whether a model folder holds a LoRA adapter, written by `save_lora` or by peft."""
    return (folder / ADAPTER_CONFIG_FILE).is_file()


def check_lora_folder(folder: Path) -> None:
    """Check that `from_pretrained` can load the adapter of a model folder, if the folder has one.

    Raises:
        UserError: peft is not installed (Transformers would then silently load the base model alone),
            or the adapter has no safetensors weights.
    """
    if not is_lora_folder(folder):
        return
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
    """Freeze a classifier except for its head, and add trainable low-rank adapters to its layers.

    The layers are peft's default for the architecture, else the query and value projections, found by
    name. A is drawn from torch's global generator and B is zero, so the logits do not change yet.

    Args:
        model: from `load_model`; changed in place.
        rank: rank of the adapters.
        alpha: the adapters' output is scaled by alpha / rank; None: 2 * rank.
        new_parameters: from `load_model`; these, and all outside of the encoder, are trained in full.

    Returns:
        A `peft.PeftModelForSequenceClassification` around the model.

    Raises:
        UserError: peft is not installed, or the model has no such layers or shares their weights.
    """
    check_peft("--lora-rank")
    from peft import LoraConfig, TaskType, get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer

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
    with warnings.catch_warnings():  # peft 0.21 reads an attribute that Transformers deprecated
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        adapted = get_peft_model(model, config)
    layers: Any = [m for m in adapted.modules() if isinstance(m, BaseTunerLayer)]
    if len({id(layer.get_base_layer().weight) for layer in layers}) < len(layers):  # Zamba
        raise UserError(
            f"{type(model).__name__} has one weight in several layers, and LoRA would change it in each",
            where="--lora-rank",
            fix="leave it out, or choose another model",
        )
    return adapted


def train_in_float32(model: Any) -> None:
    """Convert what trains of a LoRA model in half precision to float32; the frozen weights stay.

    peft converts its adapters and their inputs, but not the head, whose inputs are converted here.
    """
    from peft.utils import ModulesToSaveWrapper

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    for wrapper in model.modules():
        if isinstance(wrapper, ModulesToSaveWrapper):
            head = wrapper.modules_to_save["default"]
            head.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(), *inputs[1:]))


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
    """Save a LoRA model as a folder that `AutoModelForSequenceClassification` loads by itself.

    peft's adapter_config.json and adapter_model.safetensors hold the adapter and the head but not
    the labels: alone, they would be loaded onto a base model with two unnamed labels. The frozen
    base model is therefore saved with them, with the labels in its config.json.

    Args:
        model: from peft's `get_peft_model`.
        folder: an existing folder.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    adapter = {
        name: tensor.contiguous() for name, tensor in get_peft_model_state_dict(model).items()
    }
    config = copy(model.peft_config["default"])
    config.inference_mode = True  # as peft's save_pretrained sets it
    # Not model.save_pretrained, which would also write a README.md.
    config.save_pretrained(folder)
    save_file(adapter, folder / ADAPTER_WEIGHTS_FILE, metadata={"format": "pt"})
    # The names of the plain classifier: peft wraps the layers that it adapts and the head.
    base = {
        name.replace(".base_layer.", ".").replace(".original_module.", "."): tensor
        for name, tensor in model.get_base_model().state_dict().items()
        if ".lora_" not in name and ".modules_to_save." not in name
    }
    model.get_base_model().save_pretrained(folder, state_dict=base)


def merge_lora(model: Any) -> "PreTrainedModel":
    """Merge LoRA adapters into the weights: W + alpha / rank * BA.

    The sum is rounded once: in float32 the logits change by about 1e-6 relative.

    Args:
        model: from `add_lora`, or loaded by `from_pretrained` from a folder of `save_lora`. It is
            changed and must not be used any more.

    Returns:
        The classifier without peft, with all parameters trainable.
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
    # Transformers records that it loaded an adapter, and how names in the file map to parameters.
    # With these records left, save_pretrained would write an adapter, under an adapter's names.
    if getattr(plain, "_hf_peft_config_loaded", False):
        plain._hf_peft_config_loaded = False  # noqa: SLF001
        vars(plain).pop("_weight_conversions", None)
    merged: PreTrainedModel = plain.requires_grad_(requires_grad=True)
    return merged
