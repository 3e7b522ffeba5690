"""HTML report, model card and Hub upload of a finished run."""
