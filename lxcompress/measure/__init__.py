"""What an artifact costs to run: latency, load time, peak memory and size, each with its doubts.

This file imports nothing, so that the measured process holds its runtime and little else.
"""
