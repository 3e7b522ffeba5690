"""What happens between two optimizer steps: evaluation, checkpoints, the end of the run."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from plainloop.config.settings import TrainConfig
from plainloop.console import say
from plainloop.data.batches.loaders import Batch
from plainloop.errors import DivergedError, StoppedError
from plainloop.metrics.scorer import Scores
from plainloop.metrics.task_metric import Metric
from plainloop.model.matrix_products import Products
from plainloop.run.checkpoints import list_checkpoints
from plainloop.run.rank_failure import collective_timeout
from plainloop.run.resume import OpenRun
from plainloop.run.rng import RngState
from plainloop.run.signals import StopRequest
from plainloop.run.state import TrainState
from plainloop.training.evaluation import evaluate
from plainloop.training.loss import LossFn
from plainloop.training.progress import Progress
from plainloop.training.steps import MicroBatch, all_reduce_sum, gather_row_numbers

READS_EVERY_LOSS = ("cpu",)  # types of device


@dataclass(frozen=True, kw_only=True)
class Session:
    """The objects of one call of `train`, which describes them, and the decisions between steps."""

    config: TrainConfig
    accelerator: Accelerator
    state: TrainState
    progress: Progress
    num_training_steps: int
    run: OpenRun | None
    stop: StopRequest | None

    @property
    def products(self) -> Products:
        """The kernels of the matrix products: torch's default without a run, which chooses them."""
        return self.run.products if self.run else "default"

    @property
    def training_is_done(self) -> bool:
        """Whether all steps are done, or early stopping ends the run."""
        is_last = self.state.step >= self.num_training_steps
        return is_last or self.state.out_of_patience(self.config)

    @property
    def should_evaluate(self) -> bool:
        """Whether this step ends with an evaluation; the last step does, unless there are none."""
        if self.config.eval_strategy == "no":
            return False
        is_last = self.state.step == self.num_training_steps
        return is_last or self._is_due(self.config.eval_strategy, self.config.eval_steps)

    @property
    def should_save(self) -> bool:
        """Whether this step ends with a checkpoint; not while its evaluation is unfinished."""
        if self.config.save_strategy == "no" or self.state.evaluation_due:
            return False
        return self.training_is_done or self._is_due(
            self.config.save_strategy, self.config.save_steps
        )

    @property
    def reads_loss(self) -> bool:
        """Whether this step's loss is read: before it is logged and before anything is saved.

        On the CPU after every step; elsewhere it waits for the device.
        """
        is_logged = self.state.step % self.config.logging_steps == 0
        is_saved = self.should_evaluate or self.should_save or self.training_is_done
        return is_logged or is_saved or self.accelerator.device.type in READS_EVERY_LOSS

    def _is_due(self, strategy: str, every_steps: int) -> bool:
        if strategy == "epoch":
            return self.state.batches_done == 0
        return self.state.step % every_steps == 0

    def evaluate(
        self,
        model: nn.Module,
        eval_dataloader: DataLoader[Batch] | None,
        metric: Metric | None,
        loss_fn: LossFn | None,
    ) -> Scores | None:
        """Score the model, note the scores, and save the model if it is the best so far.

        Returns:
            The scores; None if a signal interrupted the evaluation, which then leaves no trace but
            `state.evaluation_due`, and if there is nothing to evaluate with.

        Raises:
            DivergedError: the loss or a weight is not finite; the model is not saved.
        """
        state, config = self.state, self.config
        if eval_dataloader is None or metric is None:
            return None
        state.evaluation_due = True
        started, rng_state = time.perf_counter(), RngState.capture()
        scores = evaluate(
            model,
            eval_dataloader,
            metric,
            accelerator=self.accelerator,
            loss_fn=loss_fn,
            stop=self.stop,
        )
        if scores is None:
            rng_state.restore()
            return None
        state.evaluation_due = False
        self.raise_if_diverged(scores["loss"])
        self.raise_if_weights_diverged(model)
        metric_name = config.best_metric
        known_before = all(metric_name in one for one in state.evaluations)
        if metric_name not in scores and known_before and self.accelerator.is_main_process:
            what = f"{metric_name} is not defined for the predictions of step {state.step}"
            say("Warning", f"{what}: it counts as the worst score, here and later")
        if state.record_evaluation(scores, config) and config.load_best_model_at_end and self.run:
            with collective_timeout(config.ddp_timeout):
                self.run.checkpoints.save_best(model, state.step)
        self.progress.show_evaluation(
            state.evaluations[-1], time.perf_counter() - started, config.best_metric
        )
        return scores

    def save_or_stop(self, model: nn.Module, optimizer: Any, lr_scheduler: LRScheduler) -> None:
        """Save a checkpoint if one is due or a signal came, which then ends the run.

        Raises:
            StoppedError: any process had a signal.
            DivergedError: the loss or a weight is not finite; nothing is saved.
            MachineError: a checkpoint could not be written.
        """
        signal_number = self.stop.signal_on_any_rank(self.accelerator) if self.stop else None
        saved = "nothing was saved"
        is_saved = self.run and (signal_number or self.should_save)
        if is_saved or self.training_is_done:
            self.progress.settle()
            self.raise_if_diverged(self.state.loss_since_log)
            # A last step may have a finite loss and leave weights that are not.
            self.raise_if_weights_diverged(model)
        if self.run and is_saved:
            with collective_timeout(self.config.ddp_timeout):
                path = self.run.checkpoints.save(self.state, model, optimizer, lr_scheduler)
            if self.run.folder:
                self.run.folder.delete_replaced()
            saved = f"saved {path}"
        if not signal_number:
            return
        if not self.accelerator.is_main_process:  # one line is enough
            raise StoppedError(signal_number, "")
        count = self.accelerator.num_processes
        on_as_many = f", on {count} processes" if count > 1 else ""
        raise StoppedError(
            signal_number,
            f"stopped after step {self.state.step}; {saved}",
            fix=f"to go on{on_as_many}: "
            f"plainloop train --config {self.config.run_path}/run.yaml --resume",
        )

    def raise_if_diverged(
        self,
        loss: float,
        learning_rate: float | None = None,
        micro_batches: Sequence[MicroBatch] = (),
    ) -> None:
        """Check that a loss is finite.

        Args:
            loss: mean of the steps since the last logged one, or of an evaluation.
            learning_rate: of the step.
            micro_batches: of the step; their rows are named.

        Raises:
            DivergedError: it is not.
        """
        if math.isfinite(loss):
            return
        details = [f"epoch {self.state.epoch:.4f}"]
        if learning_rate is not None:
            details.insert(0, f"learning rate {learning_rate:.2e}")
        if numbers := gather_row_numbers(micro_batches, self.accelerator):
            details.append(f"training rows {', '.join(map(str, numbers))}")
        raise self._diverged(f"the loss is {loss} ({', '.join(details)})")

    def raise_if_weights_diverged(self, model: nn.Module) -> None:
        """Check that all weights are finite, on every process.

        Raises:
            DivergedError: they are not.
        """
        # No buffers: that of an attention mask may rightly be infinite.
        weights = model.parameters()
        shards = (each.to_local() if hasattr(each, "to_local") else each for each in weights)
        broken = sum(float(not shard.isfinite().all()) for shard in shards)
        if all_reduce_sum(broken, self.accelerator) > 0:
            raise self._diverged("the weights are not finite")

    def _diverged(self, what: str) -> DivergedError:
        kept = list_checkpoints(self.run.checkpoints.folder) if self.run else []
        return DivergedError(
            what,
            where=f"step {self.state.step}",
            fix="try a lower --learning-rate or some --warmup-steps"
            + (f"; the last checkpoint is {kept[-1]}" if kept else ""),
        )

    def load_best_model(self, model: nn.Module) -> None:
        """Load the weights of the best evaluation, if the settings ask for them.

        Raises:
            CheckpointError: they are missing or damaged.
        """
        wanted = self.config.load_best_model_at_end and self.state.best_score is not None
        if wanted and self.run:
            self.run.checkpoints.load_best(model, self.state.best_step)
