"""The arithmetic of one expert, behind one signature for every device."""
