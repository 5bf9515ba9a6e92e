"""An emulator of GPUs for compiled kernels: PTX as C++, with a fiber for each thread."""
