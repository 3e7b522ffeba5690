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
        Rule("batches = train_dataloader", "", "--resume"),
        Rule("if state.batches_done:", "", "--resume"),
        Rule(
            "for window in windows(batches, train_dataloader, state.batches_done, config):",
            "for window in windows(train_dataloader): ..."
            if accumulates
            else "for batch in train_dataloader: ...",
            "--resume" if accumulates else one,
            header=True,
        ),
        Rule("if generators:", "", "--resume"),
        Rule(
            "outputs = model(**model_inputs_of(batch))", "outputs = model(**batch)", "row numbers"
        ),
        Rule(
            "loss = loss_fn(outputs, batch['labels']) if loss_fn else outputs.loss",
            "loss = loss_fn(outputs, batch['labels'])" if has_loss else "loss = outputs.loss",
            "the model's own loss" if has_loss else "--class-weights, --label-smoothing-factor",
        ),
        Rule(
            "grad_norm = accelerator.clip_grad_norm_(model.parameters(), "
            "config.max_grad_norm or math.inf)",
            "grad_norm = accelerator.clip_grad_norm_(model.parameters(), "
            f"{'MAX_GRAD_NORM' if config.max_grad_norm else 'math.inf'})",
            "--max-grad-norm",
        ),
        Rule(
            "learning_rate = learning_rate_of(optimizer)",
            "learning_rate = optimizer.param_groups[0]['lr']",
            "a function of one line",
        ),
        Rule(
            "if not (by_metric or accelerator.optimizer_step_was_skipped):",
            "" if by_metric else "if not accelerator.optimizer_step_was_skipped: ...",
            "--lr-scheduler-type",
            header=not by_metric,
        ),
        Rule("rows_before = rows_in(train_dataloader, state.batches_done)", "", "samples/s"),
        Rule(
            "rows = rows_in(train_dataloader, state.batches_done + len(window)) - rows_before",
            "",
            "samples/s",
        ),
        Rule("state.count_step(len(window), len(train_dataloader))", "step += 1", "--resume"),
        Rule(
            "progress.step(accelerator.reduce(step_loss, 'mean'), rows)",
            f"loss_sum += accelerator.reduce({'step_loss' if accumulates else 'loss.detach()'}, "
            "'mean')\nprogress_bar.update()",
            "samples/s",
        ),
        Rule("is_logged = state.step % config.logging_steps == 0", "", "stands in its condition"),
        Rule("if is_logged or accelerator.device.type == 'cpu':", "", "is looked at when logged"),
        Rule("save_or_stop()", "", "--save-strategy, signals"),
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
            "if scored and evaluation_is_due(state, config, num_training_steps):",
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
            "if is_logged or is_finished(state, config, num_training_steps):",
            f"{is_finished if patience else ''}if step % LOGGING_STEPS == 0 or {finished}: ...",
            "samples/s",
            opaque=True,
        )
    )
    # It stands twice, and the rules are used in this order: where an epoch begins, a step ends.
    statement = "if is_finished(state, config, num_training_steps):"
    stopping = "--early-stopping-patience"
    rules += [
        Rule(statement, "if is_finished: break" if patience else "", stopping),
        Rule(
            statement,
            f"if {finished}: break" if patience or not whole else "",
            f"{stopping}, --num-train-epochs",
        ),
    ]
    return rules + _rules_of_windows(accumulates=accumulates, weighs_labels=weighs_labels)


def _rules_of_windows(*, accumulates: bool, weighs_labels: bool) -> list[Rule]:
    """Of the batches of a step, and of what a row counts."""
    each = "weight_of(loss_fn, batch['labels'][:own]) for batch, own in window"
    one = "--gradient-accumulation-steps 1"
    inner = "for number, ((batch, _), weight) in enumerate(zip(window, weights, strict=True), 1):"
    context = "with nullcontext() if number == len(window) else accelerator.no_sync(model):"
    window_weight = "window_weight = sum_over_processes(sum(weights), accelerator)"
    if accumulates:
        weight = (
            "class_weights[batch['labels']].sum().item()"
            if weighs_labels
            else "len(batch['labels'])"
        )
        return [
            Rule(f"weights = [{each}]", f"weights = [{weight} for batch in window]", "own rows"),
            Rule(
                window_weight,
                "window_weight = sum_over_processes(sum(weights))",
                "an argument less",
            ),
            Rule(inner, inner.replace("(batch, _)", "batch") + " ...", "own rows", header=True),
        ]
    rules = [
        Rule("step_loss = torch.zeros((), device=accelerator.device)", "", one),
        Rule(inner, BODY, one),
        Rule(context, BODY, one),
        Rule("step_loss += loss.detach()", "", one),
    ]
    if weighs_labels:
        return [
            *rules,
            Rule(f"weights = [{each}]", "weight = class_weights[batch['labels']].sum()", one),
            Rule(window_weight, "window_weight = accelerator.reduce(weight, 'sum')", one),
        ]
    factor = "loss = loss * (weight * accelerator.num_processes / window_weight)"
    exact = f"{one}: the factor is exactly 1"
    return [*rules, *(Rule(s, "", exact) for s in (f"weights = [{each}]", window_weight, factor))]


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
