"""The lean decoder around the experts."""
