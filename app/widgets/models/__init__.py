"""The model page: what is on this computer, what can be downloaded, and whether it would run here."""
