"""Extractors: photographs become the region features that studies read."""
