"""The accelerator: which device, and the switches that the loop's numbers depend on."""

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, GradientAccumulationPlugin


def create_accelerator(*, use_cpu: bool = False) -> Accelerator:
    """An `Accelerator` for a loop that does its own accumulation and its own order of the rows.

    Args:
        use_cpu: stay on the CPU where there is a GPU.
    """
    no_gpu = not torch.accelerator.is_available()
    return Accelerator(
        # Without a GPU, processes find each other only if the CPU is asked for.
        cpu=use_cpu or no_gpu,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True),
        # A plugin, since ACCELERATE_GRADIENT_ACCUMULATION_STEPS would override a number here.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
    )
