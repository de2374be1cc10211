"""What a run leaves behind and shows: checkpoints, records, console, report, signals."""
