"""The settings dialog: a page per subject."""
