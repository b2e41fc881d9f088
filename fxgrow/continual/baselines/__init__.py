"""Other ways to learn task after task: what a network that grows with its tasks is compared with."""
