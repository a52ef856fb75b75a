"""The graph: one module a layer, thin asset functions. Logic lives in `domain`, `engines` and `resources`."""
