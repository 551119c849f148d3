"""What the ONNX standard says of its operators, and what follows from it for graphs, plans and kernels."""
