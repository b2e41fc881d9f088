"""The command line: one file per command, and what turns its arguments into models and settings."""
