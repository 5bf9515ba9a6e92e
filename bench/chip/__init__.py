"""What the kernels need on the chip of a GPU, found without one."""
