"""Records of runs: their files, state and curves."""
