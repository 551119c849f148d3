"""What does the model say? The only room that reads ONNX; its neighbours see plain dataclasses."""
