"""What ships with the app beside its code: the bundled model, icons and templates."""
