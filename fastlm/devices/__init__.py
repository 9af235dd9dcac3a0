"""The machine: what it is, and several processes on it."""
