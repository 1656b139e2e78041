"""A deterministic simulator: the real functions on a virtual clock, in a world that fails as a seed says."""
