"""What the real models would do on PCs that are not there, by the planner and the residency's policy; no weights."""
