"""What is minimised and how: losses, optimizers, learning-rate schedules, parameter groups, the EMA of the weights."""
