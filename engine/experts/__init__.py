"""The paper: where every expert lives and where it runs."""
