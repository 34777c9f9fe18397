"""An emulated CUDA: CuPy's side of xpnn, run on a CPU.

``XPNN_EMULATE_CUDA=1`` puts it in CuPy's place for a test run, with two devices, or with
``XPNN_EMULATED_DEVICES``. Kernels are built by g++ and run
thread by thread, so only small arrays are quick; numbers differ from a GPU's in their last bits.
"""
