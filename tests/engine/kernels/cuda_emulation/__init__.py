"""Runs the GPU kernels' own source on the CPU: a stand-in for the driver that launches the same plans."""
