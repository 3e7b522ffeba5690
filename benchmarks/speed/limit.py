"""What limits a training: the FLOPs that its rows need, and how fast the machine multiplies matrices.

    python -m speed.limit WORK

A process that answers {"steps": any number} with gflops: the GFLOP/s of plain matrix products of the
shapes of a mean step; and {"rows": row numbers of each step} with samples, tokens (without padding)
and flops (of the needed products, forward and backward).
"""

import sys
import time
from collections.abc import Callable

import torch

from speed.child import Requests
from speed.flops import TRAINING, Sizes, needed_flops
from speed.work import Work, load_tokenized

SECONDS_A_PRODUCT = 0.15


def seconds_of(product: Callable[[], object]) -> float:
    """The mean time of a product over as many as fill some tenths of a second."""
    product()
    count, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < SECONDS_A_PRODUCT:
        product()
        count += 1
    return seconds / count


def multiply(tokens: int, inputs: int, outputs: int) -> float:
    """Seconds of a linear map's three products: forward, gradient of its input, of its weight."""
    x, y = torch.randn(tokens, inputs), torch.randn(tokens, outputs)
    weight = torch.randn(outputs, inputs)
    return (
        seconds_of(lambda: torch.mm(x, weight.T, out=y))
        + seconds_of(lambda: torch.mm(y, weight, out=x))
        + seconds_of(lambda: torch.mm(y.T, x, out=weight))
    )


def measure_gflops(sizes: Sizes, tokens: int) -> float:
    """GFLOP/s of the linear maps of an encoder layer over so many tokens, in torch's float32.

    Attention's products are left out: they are a few per cent of the FLOPs and slower, so that the
    limit is the stricter without them. Operands and result are there before, and warm.
    """
    hidden, intermediate = sizes.hidden, sizes.intermediate
    maps = {(hidden, hidden): 4, (hidden, intermediate): 1, (intermediate, hidden): 1}
    seconds = sum(count * multiply(tokens, *shape) for shape, count in maps.items())
    flops = sum(
        count * TRAINING * 2 * tokens * inputs * outputs
        for (inputs, outputs), count in maps.items()
    )
    return flops / seconds / 1e9


def main(work: str) -> None:
    """Answer until the parent has enough."""
    from transformers import AutoConfig

    requests, settings = Requests(), Work.loads(work)
    inputs, _, tokenized = load_tokenized(settings)
    lengths = [len(ids) for ids in tokenized["train"]["input_ids"]]
    config = AutoConfig.from_pretrained(inputs.pretrained)
    sizes = Sizes.of(config, labels=inputs.task.num_labels)
    mean_tokens = round(settings.batch_size * sum(lengths) / len(lengths))
    while True:
        request = requests.next()
        if "steps" in request:
            requests.answer(gflops=measure_gflops(sizes, mean_tokens))
            continue
        batches = [[lengths[number] for number in rows] for rows in request["rows"]]
        requests.answer(
            samples=sum(map(len, batches)),
            tokens=sum(map(sum, batches)),
            flops=TRAINING * sum(needed_flops(sizes, batch) for batch in batches),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
