"""The window's texts in other languages, in Qt's own formats: `.ts` to translate, `.qm` to load."""
