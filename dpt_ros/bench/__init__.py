"""How fast: every stage measured, beside what a user would write, in one run."""
