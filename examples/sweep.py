"""A hyperparameter sweep with Optuna, on plainloop's pieces.

    python examples/sweep.py --trials 20 --study sweep.db --task mrpc --data-dir GLUE --model demo

takes the flags of `plainloop train` and two of its own. The rows are read and tokenized once; each
trial trains a model with settings that Optuna draws (`suggest`: edit it) and writes nothing but its
scores into the study. A trial that does worse than the median of the others is cut short. The same
command resumes the study; the best settings are written into best.yaml next to it.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import yaml
from accelerate.utils import set_seed
from optuna.trial import TrialState

import plainloop as pl


def suggest(trial: optuna.Trial, config: pl.TrainConfig) -> pl.TrainConfig:
    """The settings of a trial: what is searched, and where."""
    return replace(
        config,
        learning_rate=trial.suggest_float("learning_rate", 1e-5, 2e-4, log=True),
        per_device_train_batch_size=trial.suggest_categorical(
            "per_device_train_batch_size", [8, 16]
        ),
        warmup_steps=trial.suggest_float("warmup_steps", 0.0, 0.2),
    )


class ReportingMetric:
    """The task's metric; each evaluation is reported to the trial, which may end there."""

    takes_logits = True

    def __init__(self, metric: pl.TaskMetric, name: str, trial: optuna.Trial) -> None:
        self.metric, self.name, self.trial, self.evaluations = metric, name, trial, 0

    def add_batch(self, *, predictions: Any, references: Any) -> None:
        """As `TaskMetric`."""
        self.metric.add_batch(predictions=predictions, references=references)

    def compute(self) -> dict[str, float]:
        """As `TaskMetric`; raises TrialPruned where the trial is worse than the others were."""
        scores = self.metric.compute()
        self.evaluations += 1
        self.trial.report(scores[self.name], self.evaluations)
        if self.trial.should_prune():
            raise optuna.TrialPruned
        return scores


def sweep(config: pl.TrainConfig, num_trials: int, path: Path) -> optuna.Study:
    """Train until so many trials of the study have ended; write the best settings.

    Raises:
        UserError: something in the settings cannot be used, or the study is of other ones.
    """
    inputs = pl.load_inputs(replace(config, dry_run=True))  # no run's folder is asked for
    task = inputs.task
    name = config.metric_for_best_model or task.metrics[0]
    base = replace(
        inputs.config, metric_for_best_model=name, load_best_model_at_end=False, dry_run=False
    )
    if name == "loss" or base.eval_strategy == "no":
        raise pl.UserError(
            "a sweep goes by a metric of the evaluations",
            where="--metric-for-best-model, --eval-strategy",
            fix="leave them out",
        )
    study = open_study(base, path)
    tokenizer = pl.load_tokenizer(inputs.pretrained)
    tokenized = pl.tokenize_splits(
        inputs.raw, tokenizer, task.text_columns, base.max_length, stride=base.stride
    )
    model_inputs = pl.keep_model_inputs(tokenized, tokenizer)

    def objective(trial: optuna.Trial) -> float:
        config = suggest(trial, base)
        accelerator = pl.create_accelerator(config)
        dataloaders = pl.create_dataloaders(model_inputs, tokenizer, config, task)
        set_seed(config.seed)
        model, _ = pl.create_model(inputs.pretrained, task, config, tokenizer)
        pl.choose_execution(model, model_inputs["train"], config, accelerator)
        optimizer = pl.create_optimizer(model, config)
        model, optimizer, train_dataloader, eval_dataloader = accelerator.prepare(
            model, optimizer, dataloaders["train"], dataloaders["validation"]
        )
        num_training_steps = pl.count_training_steps(len(train_dataloader), config)
        metric = pl.TaskMetric(task.metrics, task.problem_type, task.label_names)
        set_seed(config.seed)
        state = pl.train(
            model,
            optimizer,
            pl.create_scheduler(optimizer, num_training_steps, config),
            train_dataloader,
            config=config,
            accelerator=accelerator,
            num_training_steps=num_training_steps,
            eval_dataloader=eval_dataloader,
            metric=ReportingMetric(metric, name, trial),
            loss_fn=pl.create_loss(config, inputs.raw["train"]["label"], task),
        )
        return float(state.evaluations[-1][name])

    ended = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    study.optimize(objective, n_trials=max(0, num_trials - len(ended)))
    best = path.with_name("best.yaml")
    settings = {**base.to_dict(), **study.best_params}
    best.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    print(f"best {name} {study.best_value:.4f} with {study.best_params}: {best}")
    return study


def open_study(base: pl.TrainConfig, path: Path) -> optuna.Study:
    """The study in a file, made or gone on with.

    Raises:
        UserError: its trials were trained with other settings, and cannot be compared.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="sweep",
        storage=f"sqlite:///{path}",
        direction="maximize" if base.more_is_better else "minimize",
        load_if_exists=True,
    )
    # Not the bare seed: a study that is resumed would draw its first trials again.
    study.sampler = optuna.samplers.TPESampler(seed=base.seed + len(study.trials))
    settings = json.loads(json.dumps(base.to_dict()))
    known = study.user_attrs.get("settings", settings)
    differing = [name for name in settings if settings[name] != known.get(name)]
    if differing:
        raise pl.UserError(
            f"its trials have another {', '.join(differing)}",
            where=f"--study {path}",
            fix="give the same flags, or another file",
        )
    study.set_user_attr("settings", settings)
    return study


def main() -> None:
    """Split the command line: what is not the sweep's is `plainloop train`'s."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--study", type=Path, default=Path("sweep.db"))
    own, flags = parser.parse_known_args()

    def run(config: pl.TrainConfig, _stop: pl.StopRequest) -> None:
        sweep(config, own.trials, own.study)

    pl.run_script(run, flags, program="sweep.py", description=__doc__ or "")


if __name__ == "__main__":
    main()
