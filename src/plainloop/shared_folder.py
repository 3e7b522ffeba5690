"""A temporary folder that all processes of a machine share."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import torch
from accelerate import Accelerator

LONGEST_PATH_BYTES = 4096


def create_shared_folder(accelerator: Accelerator) -> Path:
    """Make a folder for what one process writes and the others of its machine map.

    It stands where `tempfile` puts temporary files (TMPDIR names another place), and is removed when
    the process that made it ends.
    """
    own = ""
    if accelerator.is_local_main_process:
        own = tempfile.mkdtemp(prefix="plainloop-")
        atexit.register(shutil.rmtree, own, ignore_errors=True)
    if accelerator.num_processes == 1:
        return Path(own)
    # As numbers, since a text would travel as pickle.
    padded = os.fsencode(own).ljust(LONGEST_PATH_BYTES, b"\0")
    numbers = torch.tensor([list(padded)], dtype=torch.uint8, device=accelerator.device)
    of_all = accelerator.gather(numbers)
    first_of_machine = accelerator.process_index - accelerator.local_process_index
    return Path(os.fsdecode(bytes(of_all[first_of_machine].tolist()).rstrip(b"\0")))
