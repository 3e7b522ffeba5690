"""Metrics with bootstrap intervals, decision thresholds and calibration."""
