"""Weight block formats, the one packed layout of each, and the reference decoder."""
