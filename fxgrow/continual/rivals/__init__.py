"""What a growing master network is compared with: one method of continual learning per file."""
