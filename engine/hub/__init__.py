"""Models on the Hugging Face hub: what is there, what may be taken, and a transfer that survives anything."""
