"""The warp world: the emulated world unchanged, in a machine whose clock counts instructions and jumps when idle."""
