"""The command line, and what it needs to turn words into models."""
