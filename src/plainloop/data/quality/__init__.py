"""Problems in texts and labels, and simple baselines."""
