"""fxgrow: a graph-rewriting compiler that makes neural networks grow."""
