"""The flags that people expect from other programs, and the nearest flag of plainloop to each."""

from collections.abc import Sequence
from difflib import get_close_matches

EXPECTED = {
    "leave it out: labels are found in the data": "num-labels n-labels num-classes n-classes classes",
    "leave it out: each command does one thing": "do-train do-eval do-predict",
    "leave it out: a GPU is used if there is one": "gpu gpus n-gpu cuda device devices",
    "leave it out: the code of a checkpoint is never run": "trust-remote-code",
    "name the folder of the run first": "model run",
    "--train-file --file": "data data-file data-path csv file input inputs input-file in train-data",
    "--validation-file": "dev dev-file eval-file eval-data val-data eval-dataset",
    "--text --text-column": "sentence sentences prompt x feature features content review",
    "--label-column": "y target targets target-column class category",
    "--validation-fraction": "test-size eval-size val-size val-split validation-split split",
    "--model": "pretrained base-model backbone checkpoint bert architecture",
    "--max-length": "seq-len seq-length max-seq-len max-tokens truncation block-size",
    "--max-train-samples": "limit max-rows nrows num-rows max-examples subset sample samples",
    "--batch-size": "bs b batch train-batch-size",
    "--gradient-accumulation-steps": "accumulation grad-accum accumulate",
    "--max-grad-norm": "clip clip-norm grad-clip gradient-clipping",
    "--weight-decay": "wd l2",
    "--optim": "optimizer",
    "--bf16": "amp mixed-precision half fp16",
    "--train-sampling-strategy": "oversample oversampling sampler weighted-sampler group-by-length",
    "--seed": "random-state",
    "--stride": "window sliding-window overlap",
    "--lora-rank": "peft adapter adapters",
    "--output-dir --output": "out out-dir out-file output-file save save-dir logging-dir results",
    "--overwrite": "overwrite-output-dir",
    "--use-cpu": "no-cuda no-gpu",
    "--resume": "continue restart",
    "--report-to": "wandb tensorboard mlflow trackio logger tracker",
    "--cv": "folds k-fold kfold n-folds cross-validation cross-validate",
    "--problem-type": "multilabel multi-label regression",
}
"""What to say, or the flags to name, the first that the command has -> names from other programs."""


def nearest_flag(given: str, known: Sequence[str]) -> str:
    """How to go on after an unknown flag: the nearest one, or what is done instead.

    Args:
        given: the flag, such as --warmup_ratio or --bs=8.
        known: the flags of the command, with their aliases.
    """
    name = given.lstrip("-").partition("=")[0].lower().replace("_", "-")
    flags = [flag.removeprefix("--") for flag in known if flag.startswith("--")]
    meant = [key for key, names in EXPECTED.items() if name in names.split()]
    for answer in meant:
        if not answer.startswith("--"):
            return answer
    words = set(name.split("-"))
    shared = {flag: words & set(flag.split("-")) for flag in flags}
    similar = [flag for flag, same in shared.items() if same in (words, set(flag.split("-")))]
    near = [
        *(word[2:] for word in " ".join(meant).split() if word[2:] in flags),
        *get_close_matches(name, flags, n=1, cutoff=0.85),  # a misspelling
        *sorted(similar, key=lambda flag: -len(shared[flag])),
        *get_close_matches(name, flags, n=1, cutoff=0.65),
    ]
    return f"did you mean --{near[0]}?" if near else ""
