"""loop.py's loop -> the loop that a run's script must have: what may be missing, and why.

A rule names a statement of loop.py by its first line as `ast.unparse` writes it. A statement without
a rule must be in the script as it is.
"""

import ast
from dataclasses import dataclass

from plainloop.config.settings import METRIC_SCHEDULES, TrainConfig

BODY = "its body"


@dataclass(frozen=True)
class Rule:
    """What becomes of a statement.

    Attributes:
        statement: its first line in loop.py.
        becomes: the statements in its place; BODY: its own body; none: it is missing.
        because: the flag that is off, or what a script does without.
        header: only the first line changes, the body stays and has rules of its own.
        opaque: the body is another, and is not compared: numbers are.
    """

    statement: str
    becomes: str
    because: str
    header: bool = False
    opaque: bool = False


def rules_for(config: TrainConfig, *, has_loss: bool, weighs_labels: bool) -> list[Rule]:
    accumulates = config.gradient_accumulation_steps > 1
    whole = config.max_steps < 1 and float(config.num_train_epochs).is_integer()
    patience = config.early_stopping_patience is not None
    by_metric = config.lr_scheduler_type in METRIC_SCHEDULES
    one = "--gradient-accumulation-steps 1"
    rules = [
        Rule(
            "for epoch in range(state.epochs_done, num_epochs):",
            f"for epoch in range({'NUM_TRAIN_EPOCHS' if whole else 'num_epochs'}): ...",
            "--resume",
            header=True,
        ),
        Rule("if hasattr(train_dataloader, 'set_epoch'):", BODY, "a loader of another kind"),
        Rule(
            "for micro_batches in optimizer_steps(train_dataloader, state, config, rng_state):",
            "for micro_batches in optimizer_steps(train_dataloader): ..."
            if accumulates
            else "for batch in train_dataloader: ...",
            "--resume" if accumulates else one,
            header=True,
        ),
        Rule("outputs = model(**batch.inputs)", "outputs = model(**batch)", "row numbers"),
        Rule(
            "loss = loss_fn(outputs, batch.inputs['labels']) if loss_fn else outputs.loss",
            "loss = loss_fn(outputs, batch['labels'])" if has_loss else "loss = outputs.loss",
            "the model's own loss" if has_loss else "--class-weights, --label-smoothing-factor",
        ),
        Rule(
            "grad_norm = accelerator.clip_grad_norm_(model.parameters(), max_grad_norm)",
            "grad_norm = accelerator.clip_grad_norm_(model.parameters(), "
            f"{'MAX_GRAD_NORM' if config.max_grad_norm else 'math.inf'})",
            "--max-grad-norm",
        ),
        Rule("max_grad_norm = config.max_grad_norm or math.inf", "", "stands where it is used"),
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
            "" if by_metric else "if not accelerator.optimizer_step_was_skipped: ...",
            "--lr-scheduler-type",
            header=not by_metric,
        ),
        Rule(
            "rows = count_rows(train_dataloader, state.batches_done, len(micro_batches))",
            "",
            "samples/s",
        ),
        Rule(
            "state.count_step(len(micro_batches), len(train_dataloader))", "step += 1", "--resume"
        ),
        Rule(
            "progress.step(accelerator.reduce(step_loss, 'mean'), rows)",
            f"loss_sum += accelerator.reduce({'step_loss' if accumulates else 'loss.detach()'}, "
            "'mean')\nprogress_bar.update()",
            "samples/s",
        ),
        Rule("is_logged = state.step % config.logging_steps == 0", "", "stands in its condition"),
        Rule("if is_logged or accelerator.device.type == 'cpu':", "", "is looked at when logged"),
        Rule(
            "session.save_or_stop(model, optimizer, lr_scheduler)", "", "--save-strategy, signals"
        ),
    ]
    if config.eval_strategy == "no":
        due = ""
    else:
        steps = "EVAL_STEPS" if config.eval_strategy == "steps" else "steps_per_epoch"
        due = f"if step % {steps} == 0"
        if not whole or config.eval_strategy == "steps":
            due += " or step == num_training_steps"
        due += ": ..."
    rules.append(
        Rule(
            "if session.should_evaluate:",
            due,
            f"--eval-strategy {config.eval_strategy}",
            opaque=True,
        )
    )
    finished = "is_finished" if patience else "step == num_training_steps"
    is_finished = (
        "is_finished = step == num_training_steps "
        "or evaluations_without_gain >= EARLY_STOPPING_PATIENCE\n"
    )
    rules.append(
        Rule(
            "if is_logged or session.training_is_done:",
            f"{is_finished if patience else ''}if step % LOGGING_STEPS == 0 or {finished}: ...",
            "samples/s",
            opaque=True,
        )
    )
    # It stands twice, and the rules are used in this order: where an epoch begins, a step ends.
    statement = "if session.training_is_done:"
    stopping = "--early-stopping-patience"
    rules += [
        Rule(statement, "if is_finished: break" if patience else "", stopping),
        Rule(
            statement,
            f"if {finished}: break" if patience or not whole else "",
            f"{stopping}, --num-train-epochs",
        ),
    ]
    return rules + _rules_of_a_step(accumulates=accumulates, weighs_labels=weighs_labels)


def _rules_of_a_step(*, accumulates: bool, weighs_labels: bool) -> list[Rule]:
    """Of the micro-batches of a step, and of what a row counts."""
    denominators = (
        "denominators = [loss_denominator(loss_fn, batch.labels) for batch in micro_batches]"
    )
    total = "step_denominator = all_reduce_sum(sum(denominators), accelerator)"
    one = "--gradient-accumulation-steps 1"
    if accumulates:
        denominator = (
            "class_weights[batch['labels']].sum().item()"
            if weighs_labels
            else "len(batch['labels'])"
        )
        return [
            Rule(
                denominators,
                f"denominators = [{denominator} for batch in micro_batches]",
                "repeated rows",
            ),
            Rule(total, "step_denominator = all_reduce_sum(sum(denominators))", "an argument less"),
        ]
    rules = [
        Rule("step_loss = torch.zeros((), device=accelerator.device)", "", one),
        Rule("for batch, denominator in zip(micro_batches, denominators, strict=True):", BODY, one),
        Rule("is_last = batch is micro_batches[-1]", "", one),
        Rule("with nullcontext() if is_last else accelerator.no_sync(model):", BODY, one),
        Rule("step_loss += loss.detach()", "", one),
    ]
    if weighs_labels:
        return [
            *rules,
            Rule(denominators, "denominator = class_weights[batch['labels']].sum()", one),
            Rule(total, "step_denominator = accelerator.reduce(denominator, 'sum')", one),
        ]
    factor = "loss = loss * (denominator * accelerator.num_processes / step_denominator)"
    exact = f"{one}: the factor is exactly 1"
    return [*rules, *(Rule(s, "", exact) for s in (denominators, total, factor))]


class Applier(ast.NodeTransformer):
    """Apply the rules, each once; note those that were used."""

    def __init__(self, rules: list[Rule]) -> None:
        self.left = list(rules)
        self.used: list[Rule] = []

    def visit(self, node):
        if not isinstance(node, ast.stmt):
            return node
        rule = next((rule for rule in self.left if rule.statement == first_line(node)), None)
        if rule is None:
            return self.generic_visit(node)
        self.left.remove(rule)
        self.used.append(rule)
        if rule.becomes == BODY:
            visited = [self.visit(inner) for inner in node.body]
            return [
                s for v in visited if v is not None for s in (v if isinstance(v, list) else [v])
            ]
        new = ast.parse(rule.becomes).body
        if rule.header:
            new[0].body = self.generic_visit(node).body
        return new or None


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


def expected_loop(rules: list[Rule], source: str) -> tuple[str, list[Rule]]:
    """The loop that the script must have, and the rules that made it of loop.py's, in order."""
    applier = Applier(rules)
    (loop,) = applier.visit(outer_loop(source))
    assert applier.left == [], "rules for statements that loop.py no longer has"
    return ast.unparse(ast.fix_missing_locations(loop)), applier.used


def loop_of(script: str, rules: list[Rule]) -> str:
    """The script's loop, without the bodies that are not compared."""
    headers = {
        first_line(ast.parse(rule.becomes).body[-1])
        for rule in rules
        if rule.opaque and rule.becomes
    }
    loop = outer_loop(script)
    for node in ast.walk(loop):
        if isinstance(node, ast.If) and first_line(node) in headers:
            node.body = ast.parse("...").body
    return ast.unparse(loop)
