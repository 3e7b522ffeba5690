"""A script's imports from plainloop become the definitions, with what these use and nothing else."""

import ast

from plainloop.eject.branches import drop_unused
from plainloop.eject.inline import inline

SCRIPT = """\
import re
from collections.abc import Sequence

from torch import nn

from plainloop.training.loss import FocalLoss
from plainloop.training.optim import parameter_groups

print(parameter_groups(nn.Linear(1, 1), 0.1))
"""


def names_of(source):
    return [
        getattr(node, "name", ast.unparse(node).split(" ")[0]) for node in ast.parse(source).body
    ]


def test_what_is_used_is_defined_with_the_constants_that_it_uses():
    source = drop_unused(inline(SCRIPT))
    assert names_of(source) == [
        "import",
        "from",
        "NO_DECAY_NAMES",
        "parameter_groups",
        "print(parameter_groups(nn.Linear(1,",
    ]
    assert source.startswith("import re\n\nfrom torch import nn\n\nNO_DECAY_NAMES = re.compile(")
    assert '    """Group the trainable parameters' in source


def test_private_functions_come_along_in_their_order_and_marks_of_checkers_do_not():
    source = inline(
        "from plainloop.data.batches.sliding_windows import pool_windows, tokenize_windows\n\n"
        "pool_windows(tokenize_windows)\n"
    )
    assert names_of(source)[:-1] == [
        *("tokenize_windows", "_split", "_special_tokens_around", "_fill"),
        *("pool_windows", "_forward_windows"),
    ]
    assert "type: ignore" not in source
    assert "check_stride" not in names_of(source)
