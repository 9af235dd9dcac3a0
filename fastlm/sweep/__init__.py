"""Train many runs and compare them."""
