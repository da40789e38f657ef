"""The bench: latency, load time, peak memory and size of exported artifacts, with warnings where they may mislead.

This file imports nothing, so that a measured process holds its runtime and little else.
"""
