"""Where a scenario runs: the virtual and the emulated world."""
