"""The settings of a run, their validation, and the GLUE tasks."""
