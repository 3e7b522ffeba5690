"""A user's own rows as a task: columns, labels, splits."""
