"""How the bundled model `guide` is made: its corpus, its training and its evaluation."""
