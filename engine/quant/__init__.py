"""Weight block formats and the packed layout."""
