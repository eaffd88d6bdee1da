"""Ways into the compiler: each frontend yields a QONNX `onnx.ModelProto` and knows nothing of its later fate."""
