"""Where images come from: CoOp's folders, ImageNet's, TensorFlow Datasets, one's own."""
