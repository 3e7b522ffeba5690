"""Training state: counters, history, evaluations, and the best evaluation so far."""

import math
from dataclasses import dataclass, field
from typing import Any

from plainloop.config.settings import TrainConfig


@dataclass
class TrainState:
    """Everything the loop counts; with the weights it is what a checkpoint restores.

    Attributes:
        step: optimizer steps done.
        epochs_done: completed epochs.
        batches_done: batches done in the current epoch, on each process.
        epoch: epochs_done plus the fraction of the current epoch.
        evaluation_due: whether this step's evaluation is not finished yet.
        epoch_rng: state of rank 0's CPU generator of torch when the current epoch began, in hex: an
            order that is drawn from it is drawn again on a resume.
        loss_since_log: sum of the losses of the steps since the last logged one.
        rows_since_log: their rows, over all processes.
        logged_step: step of the last logged record.
        best_score: the best value so far of the metric that chooses the best model.
        best_step: the step of that evaluation.
        evaluations_without_gain: evaluations since one was better by the threshold.
        history: one record a logged step: step, epoch, loss (mean over the steps since the last
            record), grad_norm (of the last step, before clipping), learning_rate (of the last
            step), samples_per_second.
        evaluations: one record an evaluation: step, epoch, loss and the metrics.
    """

    step: int = 0
    epochs_done: int = 0
    batches_done: int = 0
    epoch: float = 0.0
    evaluation_due: bool = False
    epoch_rng: str = ""
    loss_since_log: float = 0.0
    rows_since_log: int = 0
    logged_step: int = 0
    best_score: float | None = None
    best_step: int = 0
    evaluations_without_gain: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)

    def find_contradiction(self, step: int) -> str | None:
        """Why this cannot be the state after `step` optimizer steps; None if it can."""
        if self.step != step:
            return f"of step {self.step}"
        steps = [record["step"] for record in (*self.history, *self.evaluations)]
        counts = [self.epochs_done, self.logged_step, self.best_step, *steps]
        if self.batches_done < 0 or not all(0 <= count <= step for count in counts):
            return f"counts what cannot be after step {step}"
        return None

    def record_evaluation(self, scores: dict[str, float], config: TrainConfig) -> bool:
        """Record an evaluation; return whether it is the best so far.

        Patience works as in `transformers.EarlyStoppingCallback`: it restarts if the score beats
        the previous best by more than the threshold. A score that is not defined is the worst.
        """
        self.evaluations.append({"step": self.step, "epoch": self.epoch, **scores})
        score = scores.get(config.best_metric, math.nan)
        if math.isnan(score):
            self.evaluations_without_gain += 1
            return False
        gain = None if self.best_score is None else score - self.best_score
        if gain is not None and not config.more_is_better:
            gain = -gain
        if gain is None or gain > config.early_stopping_threshold:
            self.evaluations_without_gain = 0
        else:
            self.evaluations_without_gain += 1
        is_best = gain is None or gain > 0
        if is_best:
            self.best_score, self.best_step = score, self.step
        return is_best

    def count_step(self, num_batches: int, batches_per_epoch: int) -> None:
        """Count an optimizer step of `num_batches` batches."""
        self.step += 1
        self.batches_done += num_batches
        self.epoch = self.epochs_done + self.batches_done / batches_per_epoch
        if self.batches_done == batches_per_epoch:
            self.epochs_done, self.batches_done = self.epochs_done + 1, 0

    def out_of_patience(self, config: TrainConfig) -> bool:
        """Whether early stopping ends the run."""
        patience = config.early_stopping_patience
        return patience is not None and self.evaluations_without_gain >= patience
