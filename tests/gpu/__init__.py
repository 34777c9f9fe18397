"""What needs an NVIDIA GPU, or, with XPNN_EMULATE_CUDA=1, the emulated one."""
