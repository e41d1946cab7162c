"""What the studies claim, judged on their stored tables, one module a study."""
