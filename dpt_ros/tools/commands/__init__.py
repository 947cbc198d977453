"""The commands of `dpt`, a file each: what is typed, and what is said back."""
