"""Export a finished run to ONNX, prove that it predicts the same, and predict with it without torch."""
