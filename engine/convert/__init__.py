"""Makes a smaller model of a large one: `python -m engine convert`, resumable at any moment."""
