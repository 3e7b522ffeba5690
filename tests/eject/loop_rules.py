"""loop.py's loop -> the full script's -> the loop of a run: what each may lack, and why.

A rule names a statement of loop.py by its first line as `ast.unparse` writes it. A statement without
a rule must be in the full script as it is.
"""

import ast
from typing import NamedTuple

BODY = "its body"


class Rule(NamedTuple):
    """What becomes of a statement.

    Attributes:
        statement: its first line in loop.py.
        becomes: the statements in its place, with its body at `...`; BODY: its own body; none: it
            is missing.
        because: what the full script does without.
        opaque: the body is another, and is not compared: numbers are.
    """

    statement: str
    becomes: str
    because: str
    opaque: bool = False


RULES = [
    Rule(
        "for epoch in range(state.epochs_done, num_epochs):",
        "for epoch in range(math.ceil(num_training_steps / steps_per_epoch)): ...",
        "--resume",
    ),
    Rule("if hasattr(train_dataloader, 'set_epoch'):", BODY, "a loader of another kind"),
    Rule("outputs = model(**batch.inputs)", "outputs = model(**batch)", "row numbers"),
    Rule(
        "loss = loss_fn(outputs, batch.inputs['labels']) if loss_fn else outputs.loss",
        "loss = loss_fn(outputs, batch['labels']) if HAS_LOSS else outputs.loss",
        "row numbers",
    ),
    Rule("max_grad_norm = config.max_grad_norm or math.inf", "", "a constant"),
    Rule(
        "grad_norm = accelerator.clip_grad_norm_(model.parameters(), max_grad_norm)",
        "grad_norm = accelerator.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)",
        "a constant",
    ),
    Rule(
        "learning_rate = float(optimizer.param_groups[0]['lr'])",
        "learning_rate = optimizer.param_groups[0]['lr']",
        "is a float already",
    ),
    Rule(
        "checks.after_step(outputs, batch.inputs['labels'], state.step)",
        "",
        "mistakes in a changed loop",
    ),
    Rule(
        "if not (by_metric or accelerator.optimizer_step_was_skipped):",
        "if not FOLLOWS_METRIC:\n    if not accelerator.optimizer_step_was_skipped: ...",
        "--lr-scheduler-type",
    ),
    Rule(
        "rows = count_rows(train_dataloader, state.batches_done, len(micro_batches))",
        "",
        "samples/s",
    ),
    Rule("state.count_step(len(micro_batches), len(train_dataloader))", "step += 1", "--resume"),
    Rule("is_logged = state.step % config.logging_steps == 0", "", "stands in its condition"),
    Rule("if session.reads_loss:", "", "is looked at when logged"),
    Rule(
        "if session.should_evaluate:",
        "is_finished = step == num_training_steps\n"
        "if EVAL_STRATEGY != 'no':\n"
        "    if step % (EVAL_STEPS if EVAL_BY_STEPS else steps_per_epoch) == 0 or is_finished: ...",
        "--eval-strategy",
        opaque=True,
    ),
    Rule(
        "if is_logged or session.training_is_done:",
        "if step % LOGGING_STEPS == 0 or is_finished: ...",
        "samples/s",
        opaque=True,
    ),
    Rule("session.save_or_stop(model, optimizer, lr_scheduler)", "", "--save-strategy, signals"),
    # It stands twice, and the rules are used in this order: where an epoch begins, a step ends.
    Rule(
        "if session.training_is_done:",
        "if EARLY_STOPPING_PATIENCE:\n    if is_finished: ...",
        "--early-stopping-patience",
    ),
    Rule("if session.training_is_done:", "if is_finished: ...", "--early-stopping-patience"),
]
STEPS = "for micro_batches in optimizer_steps(train_dataloader, state, config, rng_state):"
DENOMINATORS = "denominators = [loss_denominator(loss_fn, batch.labels) for batch in micro_batches]"
TOTAL = "step_denominator = all_reduce_sum(sum(denominators), accelerator)"
FACTOR = "loss = loss * (denominator * accelerator.num_processes / step_denominator)"
REDUCED = "progress.step(accelerator.reduce(step_loss, 'mean'), rows)"
ACCUMULATED = [
    Rule(STEPS, "for micro_batches in optimizer_steps(train_dataloader): ...", "--resume"),
    Rule(
        DENOMINATORS,
        "denominators = [loss_denominator(batch['labels']) for batch in micro_batches]",
        "repeated rows",
    ),
    Rule(TOTAL, "step_denominator = all_reduce_sum(sum(denominators))", "an argument less"),
    Rule(
        REDUCED,
        "loss_sum += accelerator.reduce(step_loss, 'mean')\nprogress_bar.update()",
        "samples/s",
    ),
]
ONE = "--gradient-accumulation-steps 1"
EXACT = f"{ONE}: the factor is exactly 1"
OF_ONE_BATCH = [
    Rule(STEPS, "for batch in train_dataloader: ...", ONE),
    Rule("step_loss = torch.zeros((), device=accelerator.device)", "", ONE),
    Rule("for batch, denominator in zip(micro_batches, denominators, strict=True):", BODY, ONE),
    Rule("is_last = batch is micro_batches[-1]", "", ONE),
    Rule("with nullcontext() if is_last else accelerator.no_sync(model):", BODY, ONE),
    Rule("step_loss += loss.detach()", "", ONE),
    Rule(
        REDUCED,
        "loss_sum += accelerator.reduce(loss.detach(), 'mean')\nprogress_bar.update()",
        "samples/s",
    ),
]
RULES_OF = {
    "accumulated": [*RULES, *ACCUMULATED],
    "one batch": [
        *RULES,
        *OF_ONE_BATCH,
        *(Rule(statement, "", EXACT) for statement in (DENOMINATORS, TOTAL, FACTOR)),
    ],
    "one batch, weighted": [
        *RULES,
        *OF_ONE_BATCH,
        Rule(DENOMINATORS, "denominator = class_weights[batch['labels']].sum()", ONE),
        Rule(TOTAL, "step_denominator = accelerator.reduce(denominator, 'sum')", ONE),
    ],
}


class Applier(ast.NodeTransformer):
    """Apply the rules, each once."""

    def __init__(self, rules: list[Rule]) -> None:
        self.left = list(rules)

    def visit(self, node):
        if not isinstance(node, ast.stmt):
            return node
        rule = next((rule for rule in self.left if rule.statement == first_line(node)), None)
        if rule is None:
            return self.generic_visit(node)
        self.left.remove(rule)
        body = [] if rule.opaque else self.generic_visit(node)
        if rule.becomes == BODY:
            return body.body
        new = ast.parse(rule.becomes).body
        if not rule.opaque:
            for inner in (inner for one in new for inner in ast.walk(one)):
                if getattr(inner, "body", None) and ast.unparse(inner.body) == "...":
                    inner.body = body.body
        return new or None


class Reducer(ast.NodeTransformer):
    """Keep the branches of conditions that are on, of those that are to be decided."""

    def __init__(self, conditions: set[str], on: set[str]) -> None:
        self.conditions, self.on = conditions, on

    def visit_If(self, node):
        self.generic_visit(node)
        if (condition := ast.unparse(node.test)) not in self.conditions:
            return node
        return node.body if condition in self.on else node.orelse

    def visit_IfExp(self, node):
        if (condition := ast.unparse(node.test)) not in self.conditions:
            return node
        return node.body if condition in self.on else node.orelse


def first_line(node: ast.stmt) -> str:
    return ast.unparse(node).splitlines()[0]


def outer_loop(source: str) -> ast.For:
    """The loop over the epochs."""
    loops = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.For) and ast.unparse(node.target) == "epoch"
    ]
    assert len(loops) == 1
    return loops[0]


def expected_loop(rules: list[Rule], source: str) -> str:
    """The loop that the full script must have, made of loop.py's."""
    applier = Applier(rules)
    (loop,) = applier.visit(outer_loop(source))
    assert applier.left == [], "rules for statements that loop.py no longer has"
    return ast.unparse(ast.fix_missing_locations(loop))


def reduced_loop(script: str, conditions: set[str], on: set[str]) -> str:
    """The full script's loop, with the branches of some conditions taken out."""
    loop = ast.unparse(Reducer(conditions, on).visit(outer_loop(script)))
    if "ACCUMULATES" in on:
        return loop
    loop = loop.replace(
        "for micro_batches in optimizer_steps(train_dataloader):", "for batch in train_dataloader:"
    )
    return loop.replace("        batch, = micro_batches\n", "")


def without_opaque(loop: str) -> str:
    """The loop without the bodies that are not compared with loop.py's."""
    headers = {
        rule.becomes.splitlines()[-1].strip().removesuffix(" ...") for rule in RULES if rule.opaque
    }
    tree = ast.parse(loop)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and first_line(node) in headers:
            node.body = ast.parse("...").body
    return ast.unparse(tree)
