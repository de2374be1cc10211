"""Training and evaluation: the loop, the step, and what a config is built into."""
