"""Sound specifications and the ways to damage them."""
