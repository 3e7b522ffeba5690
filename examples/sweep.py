"""A hyperparameter sweep with Optuna, on plainloop's pieces.

It takes the flags of `plainloop train`, and three more: --trials, --study and --storage. The rows are
read and tokenized once; each trial trains on four fifths of the training rows with settings that Optuna
draws (`suggest`: edit it), and is scored on the rest. A trial that does worse than the median of the
others is cut short. The same command resumes the study, and several processes and machines may run it
at the same time. The last one trains the best settings and the given ones on all training rows, in the
folder of the study, and compares them on the validation rows, which the search has not seen.

Examples:
    python examples/sweep.py --trials 20 --study sweep --task mrpc --data-dir GLUE --model demo
"""

import argparse
import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from accelerate.utils import set_seed
from datasets import DatasetDict
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState
from sklearn.model_selection import train_test_split

import plainloop as pl
from plainloop.experiments.comparison import Comparison, compare_runs
from plainloop.run.folder import is_finished

HELD_OUT = 0.2
SIGN_OF_LIFE = 30
"""Seconds after which a running trial says again that its process is alive."""
LOST_AFTER = 300
"""Seconds without such a sign after which a trial counts as killed."""


def suggest(trial: optuna.Trial, config: pl.TrainConfig) -> pl.TrainConfig:
    """The settings of a trial: what is searched, and where."""
    return replace(
        config,
        learning_rate=trial.suggest_float("learning_rate", 1e-5, 5e-4, log=True),
        num_train_epochs=float(trial.suggest_int("num_train_epochs", 2, 5)),
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
        """As `TaskMetric`; raises TrialPruned if the trial is worse than the others were."""
        scores = self.metric.compute()
        self.evaluations += 1
        self.trial.report(scores[self.name], self.evaluations)
        if self.trial.should_prune():
            raise optuna.TrialPruned
        return scores


class Search:
    """The rows of a search, read, split and tokenized once for all trials of a process.

    Args:
        config: settings of `plainloop train`; its validation rows are not used.

    Raises:
        UserError: something in the settings cannot be used.
    """

    def __init__(self, config: pl.TrainConfig) -> None:
        self.inputs = inputs = pl.load_inputs(
            replace(config, dry_run=True)
        )  # no folder is asked for
        task = inputs.task
        self.metric = config.metric_for_best_model or task.metrics[0]
        if self.metric == "loss" or config.eval_strategy == "no":
            raise pl.UserError(
                "a sweep goes by a metric of the evaluations",
                where="--metric-for-best-model, --eval-strategy",
                fix="leave them out",
            )
        self.base = replace(
            inputs.config,
            metric_for_best_model=self.metric,
            load_best_model_at_end=False,
            dry_run=False,
        )
        rows = inputs.raw["train"]
        has_classes = task.problem_type == "single_label_classification"
        parts = train_test_split(
            np.arange(len(rows)),
            test_size=HELD_OUT,
            random_state=0,
            stratify=rows["label"] if has_classes else None,
        )
        self.raw = DatasetDict(train=rows.select(parts[0]), validation=rows.select(parts[1]))
        self.tokenizer = pl.load_tokenizer(inputs.pretrained)
        tokenized = pl.tokenize_splits(
            self.raw,
            self.tokenizer,
            task.text_columns,
            self.base.max_length,
            stride=self.base.stride,
        )
        self.model_inputs = pl.keep_model_inputs(tokenized, self.tokenizer)

    def score(self, trial: optuna.Trial) -> float:
        """Train with a trial's settings; the score of the last evaluation."""
        config, task = suggest(trial, self.base), self.inputs.task
        accelerator = pl.create_accelerator(config)
        dataloaders = pl.create_dataloaders(self.model_inputs, self.tokenizer, config, task)
        set_seed(config.seed)
        model, _ = pl.create_model(self.inputs.pretrained, task, config, self.tokenizer)
        pl.choose_execution(model, self.model_inputs["train"], config, accelerator)
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
            metric=ReportingMetric(metric, self.metric, trial),
            loss_fn=pl.create_loss(config, self.raw["train"]["label"], task),
        )
        return float(state.evaluations[-1][self.metric])


def open_study(base: pl.TrainConfig, folder: Path, storage: str | None) -> optuna.Study:
    """The study in a folder or a database, created or resumed.

    Args:
        base: settings of all trials.
        folder: of the study; without a storage, its trials are in journal.log there.
        storage: URL of a database, as postgresql://host/name.

    Raises:
        UserError: its trials were trained with other settings, and cannot be compared.
    """
    folder.mkdir(parents=True, exist_ok=True)
    journal = str(folder / "journal.log")
    study = optuna.create_study(
        study_name=folder.name,
        storage=RDBStorage(storage)
        if storage
        else JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal))),
        direction="maximize" if base.more_is_better else "minimize",
        load_if_exists=True,
    )
    settings = json.loads(json.dumps(base.to_dict()))
    known = study.user_attrs.get("settings", settings)
    differing = [name for name in settings if settings[name] != known.get(name)]
    if differing:
        raise pl.UserError(
            f"its trials have another {', '.join(differing)}",
            where=f"--study {folder}",
            fix="give the same flags, or another folder",
        )
    study.set_user_attr("settings", settings)
    return study


def next_trial(study: optuna.Study, num_trials: int) -> optuna.Trial | None:
    """Ask for the next trial; None if there are as many as wanted, ended or running elsewhere.

    A trial whose process was killed fails, and another one takes its place. Storages number the trials
    of all processes, so that two processes that ask at the same time start no trial too many.
    """
    for running in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        started = running.datetime_start.timestamp() if running.datetime_start else 0.0
        if time.time() - running.user_attrs.get("alive", started) > LOST_AFTER:
            study.tell(running.number, state=TrialState.FAIL, skip_if_finished=True)
    # Not the bare seed: a study that is resumed would draw its first trials again.
    seed = study.user_attrs["settings"]["seed"] + len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    counted = [one for one in study.get_trials(deepcopy=False) if one.state != TrialState.FAIL]
    if len(counted) >= num_trials:
        return None
    trial = study.ask()
    before = [one for one in study.get_trials(deepcopy=False) if one.state != TrialState.FAIL]
    if sum(one.number < trial.number for one in before) >= num_trials:
        study.tell(trial, state=TrialState.FAIL)
        return None
    return trial


@contextmanager
def signs_of_life(trial: optuna.Trial) -> Iterator[None]:
    """Note in the study, every half minute in this context, that the trial's process is alive."""
    ended = threading.Event()

    def note() -> None:
        while not ended.is_set():
            trial.set_user_attr("alive", time.time())
            ended.wait(SIGN_OF_LIFE)

    thread = threading.Thread(target=note, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def sweep(
    config: pl.TrainConfig, num_trials: int, folder: Path, storage: str | None = None
) -> optuna.Study:
    """Train until so many trials of the study have ended or run elsewhere.

    Raises:
        UserError: as `Search` and `open_study`.
    """
    search = Search(config)
    study = open_study(search.base, folder, storage)
    while trial := next_trial(study, num_trials):
        try:
            with signs_of_life(trial):
                value = search.score(trial)
            study.tell(trial, value)
        except (optuna.TrialPruned, pl.DivergedError):
            study.tell(trial, state=TrialState.PRUNED)
        except BaseException:
            study.tell(trial, state=TrialState.FAIL)
            raise
    return study


def has_settings(run: Path, config: pl.TrainConfig, names: Iterable[str]) -> bool:
    """Whether there is a run that has these settings of the config."""
    if not (run / "run.yaml").exists():
        return False
    saved = yaml.safe_load((run / "run.yaml").read_text(encoding="utf-8"))
    return all(saved[name] == getattr(config, name) for name in names)


def compare_with_given(config: pl.TrainConfig, study: optuna.Study, folder: Path) -> Comparison:
    """Train the given and the best settings on all training rows; compare them on the validation rows."""
    best = replace(config, **study.best_params)
    (folder / "best.yaml").write_text(
        yaml.safe_dump(best.to_dict(), sort_keys=False), encoding="utf-8"
    )
    for name, settings in (("given", config), ("best", best)):
        path = folder / name
        # After more trials, a finished run in `best` may be one of settings that are not the best now.
        is_same = has_settings(path, settings, study.best_params)
        if not (is_same and is_finished(path)):
            again = replace(settings, output_dir=path, resume=is_same, overwrite=not is_same)
            pl.fine_tune(again)
    runs = [pl.load_run(folder / name) for name in ("given", "best")]
    return compare_runs(runs[:1], runs[1:])


def main() -> None:
    """Split the command line: what is not the sweep's is `plainloop train`'s."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--study", type=Path, default=Path("sweep"))
    parser.add_argument("--storage")
    own, flags = parser.parse_known_args()

    def run(config: pl.TrainConfig, _stop: pl.StopRequest) -> None:
        study = sweep(config, own.trials, own.study, own.storage)
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        print(f"best so far: {study.best_value:.4f} with {study.best_params}")
        if running:
            print(f"{len(running)} trials still run in other processes; the last one compares.")
        else:
            print(compare_with_given(config, study, own.study).conclusion())

    pl.run_script(run, flags, program="sweep.py", description=__doc__ or "")


if __name__ == "__main__":
    main()
