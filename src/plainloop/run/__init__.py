"""The run folder, its checkpoints, and the processes and signals of a run."""
