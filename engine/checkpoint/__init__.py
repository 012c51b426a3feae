"""Where weights come from: files on disk, checked before they are believed."""
