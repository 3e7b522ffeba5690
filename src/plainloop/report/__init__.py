"""The HTML report and the model card of a run, and its upload to the hub."""
