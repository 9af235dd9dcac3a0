"""The machine: devices, precision, memory, and data parallel processes."""
