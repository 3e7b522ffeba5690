"""Custom data sets: columns, labels and splits of a user's files."""
