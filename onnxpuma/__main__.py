"""`python -m onnxpuma` is `onnxpuma`."""

from onnxpuma.cli import main

if __name__ == "__main__":
    main()
