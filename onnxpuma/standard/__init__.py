"""Facts about operators from the ONNX standard, and their consequences for graphs, plans and kernels."""
