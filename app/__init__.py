"""The window: PySide6 widgets around an engine in another process. Never imports torch."""
