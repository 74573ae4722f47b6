"""Scores, figures and the report: pure functions of images and records."""
