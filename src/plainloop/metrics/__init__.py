"""Scores of predictions, their intervals, thresholds and calibration."""
