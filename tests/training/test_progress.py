"""What a training prints of an evaluation, and what its trackers get."""

from accelerate import Accelerator

from plainloop.run.state import TrainState
from plainloop.training.progress import Progress

SCORES = {"loss": 0.5, "accuracy": 0.75, "f1": 0.8, "roc_auc": 0.9, "f1/positive": 0.8}
RECORD = {"step": 23, "epoch": 1.0, **SCORES}


def test_of_an_evaluation_the_loss_the_first_metric_and_the_one_of_the_best_model_are_shown(capsys):
    progress = Progress(46, TrainState(), accelerator=Accelerator(), run=None)
    for best_metric in ("loss", "accuracy", "roc_auc", "not_defined_now"):
        progress.show_evaluation(RECORD, 0.0, best_metric)
    place = "  epoch 1.00, step 23: validation loss 0.5000, accuracy 0.7500"
    lines = capsys.readouterr().out.splitlines()
    assert lines == [place, place, f"{place}, roc_auc 0.9000", place]
